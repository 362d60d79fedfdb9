"""Registering a version: its audits, the studies with the version before it, and the gates of them all."""

from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from app.audits.service import add_audit, add_companions
from app.contracts.audits import AuditSpec
from app.contracts.policies import SubjectKind
from app.contracts.studies import StoredStudyModel, StoredStudySpec
from app.errors import FieldError, LabelTaken, NotFound, TextSetNotReady, ValidationFailed
from app.http.idempotency import answer_once
from app.language_models.service import resolve_language_model
from app.model_lines.schemas import STANDING_CHECKS, ModelVersionCreate, ModelVersionOut, StandingCheck
from app.model_lines.service import answer_version
from app.store.audits import Audit, audits_by_id
from app.store.companions import CompanionRole, companions_of, link_audit
from app.store.core.identifiers import Prefix, format_id, new_id
from app.store.events import record_version
from app.store.gates import Gate
from app.store.gating import add_gate
from app.store.jobs.owners import MODEL_VERSION, STUDY
from app.store.language_models import LanguageModel
from app.store.model_lines import (
    ModelLine,
    ModelVersion,
    VersionRole,
    get_model_line,
    label_is_taken,
    take_previous,
)
from app.store.operations import ACTIVE
from app.store.policies import get_policy
from app.store.studies import Study, StudyRole
from app.store.tenants import Principal
from app.store.text_sets import TextSet, require_all_texts
from app.store.trail import Action, record_request
from app.store.version_parts import attach
from app.studies.service import add_study
from app.text_sets.service import resolve_text_set


class _Audits(NamedTuple):
    """The audits of a version for one check."""

    checked: Audit
    control: Audit | None


class _Texts(NamedTuple):
    """The text sets of a check."""

    checked: TextSet
    controls: TextSet | None


def register_version(
    session: Session,
    principal: Principal,
    line_id: UUID,
    key: str,
    request: ModelVersionCreate,
    roots: list[Path],
) -> ModelVersionOut:
    """Accept a version, and all that judges it. It starts at once, or when its language model is validated.

    The locks are taken in the order in which `lifecycle` takes them: the language model and the text sets,
    then the version before, then audits.

    Raises:
        NotFound: no such line or language model for this tenant.
        LanguageModelNotReady: the language model was rejected.
        SourceNotAllowed: an inline path outside the allow-listed roots.
        TextSetNotReady: a text set of a check is importing, could not be imported or was erased.
        LabelTaken: a version of the line that has succeeded or may has this label.
        ValidationFailed: the language model is that of the version before, or lacks a check's prefix token.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """

    def create() -> ModelVersionOut:
        line = get_model_line(session, principal.tenant_id, line_id, lock=True)
        checks = STANDING_CHECKS.validate_python(line.checks)
        model = resolve_language_model(session, principal, request.model, roots)
        texts = [_texts(session, principal, check) for check in checks]
        previous = take_previous(session, line.id)
        if label_is_taken(session, line.id, request.label):
            raise LabelTaken("The line has a version of this label; give another one.")
        if previous is not None and previous.language_model_id == model.id:
            raise ValidationFailed(
                "The version before has this language model, with which it cannot be compared.",
                [FieldError("/model", "model_twice")],
            )
        version = ModelVersion(
            id=new_id(),
            tenant_id=line.tenant_id,
            model_line_id=line.id,
            language_model_id=model.id,
            previous_id=None if previous is None else previous.id,
            label=request.label,
            spec={"checks": line.checks},
            metadata_=dict(request.metadata),
        )
        session.add(version)
        session.flush()
        record_version(session, version, "version.registered")
        _Registration(session, line, version, model, previous).add_all(checks, texts)
        answer = answer_version(session, version)
        record_request(session, principal, Action.WORK_REQUESTED, answer.id)
        return answer

    operation = f"model_version of {line_id.hex}"
    return answer_once(session, principal, key, operation, request, ModelVersionOut, create)


def _texts(session: Session, principal: Principal, check: StandingCheck) -> _Texts:
    try:
        found = [
            resolve_text_set(session, principal, text_set=each, preset=None)
            for each in (check.text_set, check.control_text_set)
            if each is not None
        ]
    except NotFound:
        raise TextSetNotReady(
            "A text set of the line's checks was erased; no more versions can be judged by them. "
            "Make a new line."
        ) from None
    for text_set in found:
        require_all_texts(text_set)
    return _Texts(found[0], found[1] if len(found) > 1 else None)


class _Registration:
    """A version that is being written."""

    def __init__(
        self,
        session: Session,
        line: ModelLine,
        version: ModelVersion,
        model: LanguageModel,
        previous: ModelVersion | None,
    ) -> None:
        self._session = session
        self._line = line
        self._version = version
        self._model = model
        self._previous = previous

    def add_all(self, checks: list[StandingCheck], texts: list[_Texts]) -> None:
        """Write the audits, then the studies, then the gates."""
        audits = [self._add_audits(*each) for each in zip(range(len(checks)), checks, texts, strict=True)]
        studies: list[Study] = []
        if self._previous is not None:
            studies = [
                self._add_study(self._previous, *each)
                for each in zip(range(len(checks)), checks, texts, audits, strict=True)
            ]
            attach(self._session, self._version.id, studies)
        gates: list[Gate] = []
        for place, check in enumerate(checks):
            gates += self._add_gates(check.policies, "audit", audits[place].checked.id)
            if studies:
                gates += self._add_gates(check.study_policies, "study", studies[place].id)
        attach(self._session, self._version.id, gates)

    def _add_audits(self, place: int, check: StandingCheck, texts: _Texts) -> _Audits:
        session, model = self._session, self._model
        spec = AuditSpec(metrics=check.metrics, options=check.options)
        audit = add_audit(session, model, texts.checked, spec)
        add_companions(session, audit, model, texts.checked, None, texts.controls)
        made = _audits_of(session, audit)
        self._link(made, place, VersionRole.CHECK, VersionRole.CONTROL)
        return made

    def _link(self, audits: _Audits, place: int, checked: VersionRole, control: VersionRole) -> None:
        for role, audit in ((checked, audits.checked), (control, audits.control)):
            if audit is not None:
                link_audit(self._session, MODEL_VERSION, self._version.id, audit, role, place)
        self._session.flush()

    def _add_study(
        self, previous: ModelVersion, place: int, check: StandingCheck, texts: _Texts, later: _Audits
    ) -> Study:
        """A study of audits that there are: nothing is scored for it."""
        session = self._session
        earlier = _audits_of_version(session, previous, place)
        if previous.status in ACTIVE:
            self._link(earlier, place, VersionRole.PREVIOUS, VersionRole.PREVIOUS_CONTROL)
        versions = (previous, self._version)
        models = [
            StoredStudyModel(
                model=format_id(Prefix.LANGUAGE_MODEL, each.language_model_id), label=each.label, step=None
            )
            for each in versions
        ]
        spec = StoredStudySpec(metrics=check.metrics, options=check.options, kind="release", models=models)
        name = f"{self._line.name}: {previous.label} to {self._version.label}"
        study = add_study(session, name, spec, texts.checked, texts.controls)
        for position, audits in enumerate((earlier, later)):
            link_audit(session, STUDY, study.id, audits.checked, StudyRole.MODEL, position)
            if audits.control is not None:
                link_audit(session, STUDY, study.id, audits.control, StudyRole.CONTROL, position)
        session.flush()
        return study

    def _add_gates(self, policies: list[str], kind: SubjectKind, subject_id: UUID) -> list[Gate]:
        """All named before the first score of the version."""
        tenant_id = self._version.tenant_id
        return [
            add_gate(
                self._session,
                tenant_id,
                get_policy(self._session, tenant_id, policy),
                kind,
                subject_id,
                preregistered=True,
            )
            for policy in policies
        ]


def _audits_of(session: Session, audit: Audit) -> _Audits:
    """An audit and that of its control texts."""
    companions = companions_of(session, [audit.id])[audit.id]
    ids = [each.audit_id for each in companions if each.role == CompanionRole.CONTROL]
    control = audits_by_id(session, audit.tenant_id, ids)
    return _Audits(audit, control[ids[0]] if ids else None)


def _audits_of_version(session: Session, version: ModelVersion, place: int) -> _Audits:
    (audit_id,) = (
        each.audit_id
        for each in companions_of(session, [version.id])[version.id]
        if each.role == VersionRole.CHECK and each.position == place
    )
    return _audits_of(session, audits_by_id(session, version.tenant_id, [audit_id])[audit_id])
