"""Putting a record together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, TypeVar
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app import __version__
from app.audits.schemas import AuditOut
from app.audits.service import read_audit
from app.edits.service import read_edit
from app.errors import EvidenceNotReady, NotFound
from app.evidence.controls import ControlMappings
from app.evidence.format import EvidenceFormat
from app.evidence.parts import (
    parts_of,
    read_models,
    read_recorded_artifact,
    read_recorded_audits,
    read_recorded_gates,
    read_text_sets,
)
from app.evidence.record import MOST_WORST, EvidenceRecord, Resource, SubjectKind, Work, WorstText
from app.evidence.registry import FORMATS
from app.evidence.rows import Rows, join_rows
from app.evidence.schemas import EvidenceFormatOut
from app.gates.schemas import GateOut
from app.gates.service import read_gate
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, parse_id
from app.store.core.unit_of_work import Store
from app.store.operations import OperationStatus, get_operation
from app.store.score_pages import list_scores
from app.store.scores import ScoreOrder
from app.store.tenants import Principal
from app.store.texts import read_texts_at
from app.store.trail import Action, record_request
from app.studies.schemas import StudyOut
from app.studies.service import read_study

AnyResource = TypeVar("AnyResource", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of work that evidence is about: how its ids begin, and how it is read."""

    prefix: Prefix
    read: Callable[[Session, Principal, UUID], Resource]


def _read_audit(session: Session, principal: Principal, identifier: UUID) -> AuditOut:
    return read_audit(session, principal.tenant_id, identifier)


def _read_study(session: Session, principal: Principal, identifier: UUID) -> StudyOut:
    return read_study(session, principal.tenant_id, identifier)


SUBJECTS: Final[Mapping[SubjectKind, Subject]] = MappingProxyType(
    {
        SubjectKind.AUDIT: Subject(Prefix.AUDIT, _read_audit),
        SubjectKind.STUDY: Subject(Prefix.STUDY, _read_study),
        SubjectKind.EDIT: Subject(Prefix.EDIT, read_edit),
        SubjectKind.GATE: Subject(Prefix.GATE, read_gate),
    }
)


def find_format(name: str, kind: SubjectKind) -> EvidenceFormat:
    """The format of a name.

    Raises:
        NotFound: there is none, or none of such work.
    """
    found = FORMATS.get(name)
    if found is None or kind not in found.subjects:
        there = ", ".join(each.name for each in FORMATS.values() if kind in each.subjects)
        raise NotFound(f"There is no such format of evidence. There are: {there}.")
    return found


def list_formats(
    session: Session, principal: Principal, kind: SubjectKind, identifier: UUID, *, signed: bool
) -> list[EvidenceFormatOut]:
    """The formats of some work by name, and whether they can be had now: `signed` ones too, or not.

    Raises:
        NotFound: no such work for this tenant.
    """
    work = SUBJECTS[kind].read(session, principal, identifier)
    return [
        EvidenceFormatOut(
            name=each.name,
            title=each.title,
            media_type=each.media_type,
            available=work.status == OperationStatus.SUCCEEDED and (signed or each.payload_type is None),
        )
        for each in FORMATS.values()
        if kind in each.subjects
    ]


async def read_record(
    store: Store,
    principal: Principal,
    kind: SubjectKind,
    identifier: UUID,
    controls: ControlMappings,
    *,
    texts: bool,
) -> EvidenceRecord:
    """The record of finished work, all of it from one snapshot but the rows, which do not change.

    Args:
        store: where it is.
        principal: whose it is.
        kind: of the work.
        identifier: of the work.
        controls: what the rules of gates are mapped to.
        texts: whether texts are in the record.

    Raises:
        NotFound: no such work for this tenant.
        EvidenceNotReady: it has not ended, or ended without a result.
    """
    rows = Rows(store, principal.tenant_id, texts=texts)
    record = await store.read(_assemble, principal, kind, identifier, rows, controls, texts=texts)
    if texts:
        await store.run(record_request, principal, Action.EVIDENCE_WITH_TEXTS_READ, record.id)
    return record


def _assemble(
    session: Session,
    principal: Principal,
    kind: SubjectKind,
    identifier: UUID,
    rows: Rows,
    controls: ControlMappings,
    *,
    texts: bool,
) -> EvidenceRecord:
    resource = SUBJECTS[kind].read(session, principal, identifier)
    if resource.status != OperationStatus.SUCCEEDED:
        raise EvidenceNotReady(f"The {kind} is {resource.status}; evidence is given once it has succeeded.")
    gate = resource if isinstance(resource, GateOut) else None
    work = _judged(session, principal, resource)
    parts, finished_at = parts_of(work), resource.finished_at
    assert finished_at is not None
    record = EvidenceRecord(
        kind=kind,
        id=resource.id,
        resource=resource,
        work=work,
        models=tuple(read_models(session, principal, parts.models)),
        text_sets=tuple(read_text_sets(session, principal, parts.text_sets)),
        artifact=read_recorded_artifact(session, principal, parts.artifact),
        audits=tuple(read_recorded_audits(session, principal, parts.audits)),
        gates=tuple(read_recorded_gates(session, principal, work, gate)),
        controls=controls,
        worst=tuple(_read_worst(session, principal, parts.worst_of, texts=texts)),
        texts=texts,
        software=__version__,
        finished_at=finished_at,
        rows=rows,
    )
    return record if texts else _without_metadata(record)


def _judged(session: Session, principal: Principal, resource: Resource) -> Work:
    """What a gate judged; whatever else, itself."""
    if not isinstance(resource, GateOut):
        return resource
    subject = SUBJECTS[SubjectKind(resource.subject.kind)]
    identifier = parse_id(subject.prefix, resource.subject.id)
    assert identifier is not None
    judged = subject.read(session, principal, identifier)
    assert not isinstance(judged, GateOut)
    return judged


def _without_metadata(record: EvidenceRecord) -> EvidenceRecord:
    """A record without what its client wrote on resources, which may quote a text."""
    return replace(
        record,
        resource=_bare(record.resource),
        work=_bare(record.work),
        audits=tuple(replace(each, resource=_bare(each.resource)) for each in record.audits),
        gates=tuple(replace(each, gate=_bare(each.gate), policy=_bare(each.policy)) for each in record.gates),
    )


def _bare(resource: AnyResource) -> AnyResource:
    return resource.model_copy(update={"metadata": {}})


def _read_worst(
    session: Session, principal: Principal, public_id: str | None, *, texts: bool
) -> list[WorstText]:
    if public_id is None:
        return []
    audit = get_operation(session, Audit, principal.tenant_id, parse_id(Prefix.AUDIT, public_id))
    scores = list_scores(
        session, audit.id, order=ScoreOrder.NL_DESCENDING, group=None, after=None, limit=MOST_WORST
    )
    scored = [score for score in scores if score.nl is not None]
    clear = read_texts_at(session, audit.text_set_id, [score.ordinal for score in scored]) if texts else {}
    return [WorstText(audit=public_id, row=row) for row in join_rows(session, audit, scored, clear)]
