"""Making model lines, and reading lines and versions."""

from uuid import UUID

from sqlalchemy.orm import Session

from app.audits.service import require_other_texts
from app.contracts.policies import Subject
from app.contracts.results.studies import StudyResult
from app.errors import LineNameTaken, NothingToCompare, StudyNotSucceeded
from app.http.idempotency import answer_once
from app.http.pagination import Page, id_cursor, page_by_id
from app.model_lines.schemas import (
    STANDING_CHECKS,
    CheckDiff,
    ModelLineCreate,
    ModelLineOut,
    ModelVersionDiff,
    ModelVersionOut,
    VersionCheck,
)
from app.store.companions import companions_of
from app.store.core.identifiers import Prefix, format_id, new_id
from app.store.gating import require_rules_apply
from app.store.jobs.waiting import waiting_jobs
from app.store.lifecycle import cancel_operation
from app.store.model_lines import (
    ModelLine,
    ModelVersion,
    VersionRole,
    get_model_line,
    list_model_lines,
    name_is_taken,
)
from app.store.operations import OperationFilter, OperationStatus, get_operation, list_operations
from app.store.policies import get_policy
from app.store.progress import read_progress_of_owners
from app.store.tenants import Principal
from app.store.trail import Action, record_request
from app.store.version_parts import gates_of_versions, studies_of
from app.text_sets.service import resolve_text_set

# What is known of the study of a version before there is one: no rule can name a label.
_STUDY_TO_COME = Subject("study", "release", ("", ""))


def create_line(session: Session, principal: Principal, key: str, request: ModelLineCreate) -> ModelLineOut:
    """Write a line and its standing checks down.

    Raises:
        NotFound: no such text set or policy for this tenant.
        TextSetNotReady: a text set could not be imported.
        ValidationFailed: controls are the texts themselves, or a rule cannot judge what its policy is for.
        LineNameTaken: the tenant has a line of this name.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """

    def create() -> ModelLineOut:
        for place, check in enumerate(request.checks):
            text_set = resolve_text_set(session, principal, text_set=check.text_set, preset=None)
            if check.control_text_set is not None:
                controls = resolve_text_set(session, principal, text_set=check.control_text_set, preset=None)
                require_other_texts(session, text_set, controls, pointer=f"/checks/{place}/control_text_set")
            for field, subject, policies in (
                ("policies", Subject("audit"), check.policies),
                ("study_policies", _STUDY_TO_COME, check.study_policies),
            ):
                for number, policy in enumerate(policies):
                    found = get_policy(session, principal.tenant_id, policy)
                    require_rules_apply(found, subject, pointer=f"/checks/{place}/{field}/{number}")
        if name_is_taken(session, principal.tenant_id, request.name):
            raise LineNameTaken("There is a model line of this name; give another one.")
        line = ModelLine(
            id=new_id(),
            tenant_id=principal.tenant_id,
            name=request.name,
            description=request.description,
            checks=[check.model_dump() for check in request.checks],
            metadata_=dict(request.metadata),
        )
        session.add(line)
        session.flush()
        return ModelLineOut.of(line)

    return answer_once(session, principal, key, "model_line", request, ModelLineOut, create)


def read_line(session: Session, tenant_id: UUID, line_id: UUID) -> ModelLineOut:
    """A line.

    Raises:
        NotFound: no such line for this tenant.
    """
    return ModelLineOut.of(get_model_line(session, tenant_id, line_id))


def list_lines(
    session: Session,
    tenant_id: UUID,
    name: str | None,
    metadata: dict[str, str],
    limit: int,
    cursor: str | None,
) -> Page[ModelLineOut]:
    """A tenant's lines, all or that of a name, newest first."""
    rows = list_model_lines(session, tenant_id, id_cursor(cursor), limit + 1, name=name, metadata=metadata)
    return page_by_id(rows, limit, ModelLineOut.of)


def read_version(session: Session, tenant_id: UUID, version_id: UUID) -> ModelVersionOut:
    """A version with its checks, its gates, its progress, and what it waits for.

    Raises:
        NotFound: no such version for this tenant.
    """
    return answer_version(session, get_operation(session, ModelVersion, tenant_id, version_id))


def list_versions(
    session: Session,
    tenant_id: UUID,
    line_id: UUID,
    status: OperationStatus | None,
    metadata: dict[str, str],
    limit: int,
    cursor: str | None,
) -> Page[ModelVersionOut]:
    """The versions of a line, newest first.

    Raises:
        NotFound: no such line for this tenant.
    """
    line = get_model_line(session, tenant_id, line_id)
    wanted = OperationFilter(status=status, metadata=metadata)
    of_line = ModelVersion.model_line_id == line.id
    rows = list_operations(session, ModelVersion, tenant_id, wanted, id_cursor(cursor), limit + 1, of_line)
    answers = _answers(session, rows)
    return page_by_id(rows, limit, lambda row: answers[row.id])


def cancel(session: Session, principal: Principal, version_id: UUID) -> ModelVersionOut:
    """End a version, and what was made for it and has not ended, at the client's word.

    Raises:
        NotFound: no such version for this tenant.
        AlreadyTerminal: the version had ended before.
    """
    row = cancel_operation(session, ModelVersion, principal.tenant_id, version_id)
    record_request(session, principal, Action.WORK_CANCELLED, format_id(Prefix.MODEL_VERSION, row.id))
    return answer_version(session, row)


def read_diff(session: Session, tenant_id: UUID, version_id: UUID) -> ModelVersionDiff:
    """What changed from the version before to this one, from the studies of the two.

    Raises:
        NotFound: no such version for this tenant.
        NothingToCompare: there is no version before it.
        StudyNotSucceeded: a study has not ended, or ended otherwise.
    """
    version = get_operation(session, ModelVersion, tenant_id, version_id)
    if version.previous_id is None:
        raise NothingToCompare(
            "The version was the first of its line, so that there is none to compare it with."
        )
    previous = get_operation(session, ModelVersion, tenant_id, version.previous_id)
    checks = []
    for study in studies_of(session, [version.id])[version.id]:
        public_id = format_id(Prefix.STUDY, study.id)
        if study.status != OperationStatus.SUCCEEDED:
            raise StudyNotSucceeded(
                f"The study {public_id} is {study.status}; it shows changes once it succeeds."
            )
        result = StudyResult.model_validate(study.result)
        assert result.changes is not None
        checks.append(
            CheckDiff(
                text_set=format_id(Prefix.TEXT_SET, study.text_set_id),
                study=public_id,
                comparison=result.comparisons[0],
                change=result.changes[0],
            )
        )
    return ModelVersionDiff(
        version=format_id(Prefix.MODEL_VERSION, version.id),
        label=version.label,
        previous=format_id(Prefix.MODEL_VERSION, previous.id),
        previous_label=previous.label,
        checks=checks,
    )


def answer_version(session: Session, row: ModelVersion) -> ModelVersionOut:
    """A version as it is answered."""
    return _answers(session, [row])[row.id]


def _answers(session: Session, rows: list[ModelVersion]) -> dict[UUID, ModelVersionOut]:
    ids = [row.id for row in rows]
    audits, progress = companions_of(session, ids), read_progress_of_owners(session, ids)
    studies, gates = studies_of(session, ids), gates_of_versions(session, ids)
    waiting = waiting_jobs(session, rows)

    def checks(row: ModelVersion) -> list[VersionCheck]:
        own = {each.position: each.audit_id for each in audits[row.id] if each.role == VersionRole.CHECK}
        compared = dict(enumerate(studies[row.id]))
        return [
            VersionCheck(
                text_set=check.text_set,
                control_text_set=check.control_text_set,
                audit=format_id(Prefix.AUDIT, own[place]),
                study=format_id(Prefix.STUDY, compared[place].id) if place in compared else None,
            )
            for place, check in enumerate(STANDING_CHECKS.validate_python(row.spec["checks"]))
        ]

    return {
        row.id: ModelVersionOut.of(row, checks(row), gates[row.id], progress[row.id], waiting.get(row.id))
        for row in rows
    }
