"""The parts of a record: what the language models, texts, audits and artifact of some work are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app.audits.schemas import AuditOut
from app.audits.service import read_audits
from app.contracts.texts import TextSetRole
from app.edits.schemas import EditOut
from app.errors import EvidenceNotReady
from app.evidence.record import (
    AuditRole,
    ModelRole,
    RecordedArtifact,
    RecordedAudit,
    RecordedFile,
    RecordedGate,
    RecordedModel,
    RecordedTextSet,
    Work,
)
from app.gates.schemas import GateOut
from app.policies.preregistration import Preregistration
from app.policies.schemas import PolicyOut
from app.store.artifacts import ArtifactFile, find_artifact, list_files
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.gates import gates_of
from app.store.language_models import LanguageModel, language_models_by_id
from app.store.lineage import ancestor_of
from app.store.operations import OperationStatus
from app.store.policies import get_policy
from app.store.tenants import Principal
from app.store.text_sets import TextSet, text_sets_by_id
from app.studies.schemas import StudyOut

_PREFIXES: Final = {"audit": Prefix.AUDIT, "study": Prefix.STUDY, "edit": Prefix.EDIT}


@dataclass(frozen=True, slots=True)
class Named:
    """Something that work names: its public id, its role there, and its label."""

    id: str
    role: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What work names, in its order; `worst_of` is the audit whose most memorized texts matter most."""

    models: list[Named]
    text_sets: list[Named]
    audits: list[Named]
    worst_of: str | None
    artifact: str | None = None


def parts_of(work: Work) -> Parts:
    """What an audit, a study or an edit names."""
    if isinstance(work, AuditOut):
        return _parts_of_audit(work)
    if isinstance(work, StudyOut):
        return _parts_of_study(work)
    return _parts_of_edit(work)


def _named(*given: tuple[str | None, str, str | None]) -> list[Named]:
    return [Named(id_, str(role), label or str(role)) for id_, role, label in given if id_ is not None]


def _parts_of_audit(audit: AuditOut) -> Parts:
    companions = audit.companions.model_dump() if audit.companions else {}
    return Parts(
        models=_named(
            (audit.model, ModelRole.AUDITED, None), (audit.reference_model, ModelRole.REFERENCE, None)
        ),
        text_sets=_named((audit.text_set, "audited", None), (audit.control_text_set, "control", None)),
        audits=_named(
            (audit.id, AuditRole.AUDITED, None), *((id_, role, None) for role, id_ in companions.items())
        ),
        worst_of=audit.id,
    )


def _parts_of_study(study: StudyOut) -> Parts:
    return Parts(
        models=_named(*((each.model, ModelRole.STUDIED, each.label) for each in study.models)),
        text_sets=_named((study.text_set, "audited", None), (study.control_text_set, "control", None)),
        audits=_named(
            *((each.audit, AuditRole.STUDIED, each.label) for each in study.models),
            *((each.control_audit, AuditRole.CONTROL, each.label) for each in study.models),
        ),
        worst_of=study.models[-1].audit,
    )


def _parts_of_edit(edit: EditOut) -> Parts:
    assert edit.evaluation is not None
    audits = [
        (each, when, role)
        for role, measured in edit.evaluation.sets.items()
        for each, when in (
            (measured.audits.before, AuditRole.BEFORE),
            (measured.audits.after, AuditRole.AFTER),
        )
    ]
    memorized = edit.evaluation.sets.get(TextSetRole.MEMORIZED)
    reference = edit.evaluation.reference
    return Parts(
        # The edited model is the last: it is what the work is about.
        models=_named(
            (edit.model, ModelRole.BASE, None),
            (None if reference is None else reference.model, ModelRole.REFERENCE, None),
            (edit.edited_model, ModelRole.EDITED, None),
        ),
        text_sets=_named(*((id_, role, None) for role, id_ in edit.text_sets.items())),
        audits=_named(*audits),
        worst_of=memorized.audits.before if memorized else None,
        artifact=edit.artifact,
    )


def read_models(session: Session, principal: Principal, named: Sequence[Named]) -> list[RecordedModel]:
    """Language models in their roles."""
    ids = {each.id: _uuid(Prefix.LANGUAGE_MODEL, each.id) for each in named}
    rows = language_models_by_id(session, principal.tenant_id, ids.values())
    return [_model(session, rows[ids[each.id]], each) for each in named]


def _model(session: Session, row: LanguageModel, named: Named) -> RecordedModel:
    known = ancestor_of(session, row)
    artifact = row.source.get("artifact")
    files = [] if artifact is None else list_files(session, _uuid(Prefix.ARTIFACT, artifact))
    sizes = {file.path: file.size for file in files}
    return RecordedModel(
        role=ModelRole(named.role),
        label=named.label,
        id=known.model,
        source=known.source,
        name=known.name,
        revision=known.revision,
        digest=known.digest,
        base_model=format_id(Prefix.LANGUAGE_MODEL, row.base_model_id) if row.base_model_id else None,
        architecture=row.architecture,
        parameters=row.parameter_count,
        context_length=row.context_length,
        vocabulary_size=row.vocabulary_size,
        dtype=row.dtype,
        files=tuple(
            RecordedFile(path=path, sha256=sha256, size=sizes.get(path))
            for path, sha256 in sorted((row.files or {}).items())
        ),
    )


def read_text_sets(session: Session, principal: Principal, named: Sequence[Named]) -> list[RecordedTextSet]:
    """Text sets in their roles.

    Raises:
        EvidenceNotReady: an older release made a digest, which would stay in what is signed.
    """
    ids = {each.id: _uuid(Prefix.TEXT_SET, each.id) for each in named}
    rows = text_sets_by_id(session, principal.tenant_id, ids.values())
    return [_text_set(rows[ids[each.id]], each) for each in named]


def _text_set(row: TextSet, named: Named) -> RecordedTextSet:
    if row.keyed_digest is None:
        raise EvidenceNotReady(
            f"The digest of the {named.role} texts is still that of an older release; whoever runs the "
            "service converts it with `memaudit migrate`."
        )
    return RecordedTextSet(
        role=named.role,
        id=named.id,
        name=row.name,
        hmac_sha256=row.keyed_digest,
        texts=row.text_count,
        bytes=row.byte_count,
        group_counts=row.group_counts,
        duplicate_counts=row.duplicate_counts,
        preset=row.preset,
        revision=row.revision,
        erased=row.deleted_at is not None,
    )


def read_recorded_audits(
    session: Session, principal: Principal, named: Sequence[Named]
) -> list[RecordedAudit]:
    """Audits in their roles."""
    ids = [_uuid(Prefix.AUDIT, each.id) for each in named]
    found = {audit.id: audit for audit in read_audits(session, principal.tenant_id, ids)}
    return [
        RecordedAudit(role=AuditRole(each.role), label=each.label, resource=found[each.id]) for each in named
    ]


def read_recorded_gates(
    session: Session, principal: Principal, work: Work, only: GateOut | None
) -> list[RecordedGate]:
    """The gates on some work that were decided, or one of them alone."""
    of = _uuid(_PREFIXES[work.object], work.id)
    return [
        RecordedGate(
            gate=GateOut.of(row),
            policy=PolicyOut.of(
                get_policy(session, principal.tenant_id, format_id(Prefix.POLICY, row.policy_id))
            ),
            preregistration=Preregistration.of(row) if row.preregistered else None,
        )
        for row in gates_of(session, [of])[of]
        if row.status == OperationStatus.SUCCEEDED
        and (only is None or only.id == format_id(Prefix.GATE, row.id))
    ]


def read_recorded_artifact(
    session: Session, principal: Principal, public_id: str | None
) -> RecordedArtifact | None:
    """An artifact with its manifest; None without one."""
    row = None
    if public_id is not None:
        row = find_artifact(session, principal.tenant_id, _uuid(Prefix.ARTIFACT, public_id))
    if row is None:
        return None
    return RecordedArtifact(
        id=format_id(Prefix.ARTIFACT, row.id),
        name=row.name,
        model_repo=f"{principal.tenant_name}/{row.name}",
        revision=row.commit,
        manifest_sha256=row.manifest_sha256,
        total_bytes=row.total_bytes,
        files=_files(list_files(session, row.id)),
        deleted=row.deleted_at is not None,
    )


def _files(files: Sequence[ArtifactFile]) -> tuple[RecordedFile, ...]:
    return tuple(RecordedFile(path=file.path, sha256=file.sha256, size=file.size) for file in files)


def _uuid(prefix: Prefix, public_id: str) -> UUID:
    value = parse_id(prefix, public_id)
    assert value is not None
    return value
