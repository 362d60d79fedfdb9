"""Gates wait for their subjects: they are asked for, found when a subject ends, and when nobody told them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, or_, select, update
from sqlalchemy.orm import Session

from app.contracts.policies import Subject, SubjectKind
from app.contracts.policies.policy import RULE_LIST
from app.contracts.studies import StoredStudySpec
from app.contracts.texts import TextSetRole
from app.errors import FieldError, NotFound, NothingToJudge, ValidationFailed
from app.store.audits import Audit
from app.store.companions import is_being_finished
from app.store.edits import Edit, text_sets_of
from app.store.enqueueing import enqueue_finishing
from app.store.gates import SUBJECTS, Gate, SubjectRow
from app.store.jobs.owners import GATE
from app.store.operations import OperationStatus, is_active
from app.store.policies import Policy
from app.store.studies import Study

_BROKEN: Final = (OperationStatus.FAILED, OperationStatus.CANCELLED)


def add_gate(
    session: Session,
    tenant_id: UUID,
    policy: Policy,
    subject_kind: SubjectKind,
    subject_id: UUID | None,
    *,
    preregistered: bool = False,
    metadata: Mapping[str, object] = MappingProxyType({}),
) -> Gate:
    """Write a gate, and its job if its subject has succeeded already; else it waits for that.

    Args:
        session: of the caller, who commits.
        tenant_id: whose subject it is.
        policy: of the same tenant.
        subject_kind: what it judges.
        subject_id: which one.
        preregistered: whether the subject is asked for in this transaction, naming the policy.
        metadata: of the gate.

    Raises:
        NotFound: no such subject for this tenant.
        NothingToJudge: the subject has failed or was cancelled.
        ValidationFailed: a rule cannot judge such a subject.
    """
    subject = _take_subject(session, tenant_id, subject_kind, subject_id)
    require_rules_apply(policy, _facts_of(session, subject))
    if subject.status in _BROKEN:
        raise NothingToJudge(f"The {subject.noun} is {subject.status}, so that no gate can judge it.")
    gate = Gate(
        tenant_id=tenant_id,
        policy_id=policy.id,
        subject_kind=subject_kind,
        subject_id=subject.id,
        preregistered=preregistered,
        text_set_hmac_sha256=_digest_of_texts(subject) if preregistered else None,
        spec={
            "policy_name": policy.name,
            "policy_version": policy.version,
            "policy_sha256": policy.sha256,
            "rules": policy.rules,
        },
        metadata_=dict(metadata),
    )
    session.add(gate)
    session.flush()
    if subject.status == OperationStatus.SUCCEEDED:
        enqueue_finishing(session, GATE, gate)
    return gate


def _take_subject(
    session: Session, tenant_id: UUID, kind: SubjectKind, subject_id: UUID | None
) -> SubjectRow:
    """A subject that cannot end before the transaction does: whoever ends it then sees the gate."""
    table = SUBJECTS[kind]
    statement = select(table).where(table.id == subject_id, table.tenant_id == tenant_id)
    statement = statement.with_for_update(read=True).execution_options(populate_existing=True)
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise NotFound(f"There is no such {table.noun}.")
    assert isinstance(row, SubjectRow)
    return row


def require_rules_apply(policy: Policy, subject: Subject, *, pointer: str = "/policy") -> None:
    """Refuse a policy that cannot judge such a subject.

    Raises:
        ValidationFailed: one of its rules cannot.
    """
    for place, rule in enumerate(RULE_LIST.validate_python(policy.rules), start=1):
        code = rule.refusal(subject)
        if code is not None:
            raise ValidationFailed(
                f"Rule {place} of the policy, `{rule.kind}`, cannot judge this {subject.kind}.",
                [FieldError(pointer, code)],
            )


def _facts_of(session: Session, row: SubjectRow) -> Subject:
    if isinstance(row, Study):
        spec = StoredStudySpec.model_validate(row.spec)
        return Subject("study", spec.kind, tuple(model.label for model in spec.models))
    if isinstance(row, Edit):
        roles = text_sets_of(session, [row.id])[row.id]
        return Subject("edit", text_sets=frozenset(TextSetRole(role) for role in roles))
    return Subject("audit")


def _digest_of_texts(row: SubjectRow) -> str | None:
    """Null for an edit, whose receipt has those of its several text sets, and for texts that are imported."""
    return None if isinstance(row, Edit) else row.text_set_hmac_sha256 or None


def record_digest(session: Session, text_set_id: UUID, sha256: str) -> None:
    """Write down the digest of texts that were imported for the gates that were registered before.

    The caller holds the rows of the audits that waited for the texts, and none of them has begun.
    """
    waiting = select(Audit.id).where(Audit.text_set_id == text_set_id, is_active(Audit))
    session.execute(
        update(Gate)
        .where(Gate.subject_id.in_(waiting), Gate.preregistered, Gate.text_set_hmac_sha256.is_(None))
        .values(text_set_hmac_sha256=sha256)
    )


def take_waiting_gates(session: Session, subject_id: UUID) -> Sequence[Gate]:
    """The gates that wait for a subject, locked until the commit. The caller holds the row of the subject."""
    statement = select(Gate).where(Gate.subject_id == subject_id, is_active(Gate)).order_by(Gate.id)
    statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalars(statement).all()


def untold_gates(session: Session) -> Sequence[UUID]:
    """The gates that nobody told of the end of their subjects, as an older release does not."""
    statement = select(Gate.id).where(is_active(Gate), or_(*(_is_untold(kind) for kind in SUBJECTS)))
    return session.scalars(statement.order_by(Gate.id)).all()


def _is_untold(kind: str) -> ColumnElement[bool]:
    table = SUBJECTS[kind]
    subject = exists().where(table.id == Gate.subject_id)
    succeeded = subject.where(table.status == OperationStatus.SUCCEEDED)
    return and_(
        Gate.subject_kind == kind,
        or_(
            subject.where(table.status.in_(_BROKEN)),
            and_(succeeded, ~is_being_finished(GATE, Gate.id)),
        ),
    )


def subject_of(session: Session, gate: Gate) -> SubjectRow:
    """What a gate judges."""
    row = session.get_one(SUBJECTS[gate.subject_kind], gate.subject_id)
    assert isinstance(row, SubjectRow)
    return row
