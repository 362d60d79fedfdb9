"""Putting a record together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from uuid import UUID

from sqlalchemy.orm import Session

from app import __version__
from app.audits.service import read_audit
from app.edits.service import read_edit
from app.errors import EvidenceNotReady, NotFound
from app.evidence.format import EvidenceFormat
from app.evidence.parts import (
    parts_of,
    read_models,
    read_recorded_artifact,
    read_recorded_audits,
    read_text_sets,
)
from app.evidence.record import MOST_WORST, EvidenceRecord, SubjectKind, Work, WorstText
from app.evidence.registry import FORMATS
from app.evidence.rows import Rows, join_rows
from app.evidence.schemas import EvidenceFormatOut
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, parse_id
from app.store.core.unit_of_work import Store
from app.store.operations import OperationStatus, get_operation
from app.store.score_pages import list_scores
from app.store.scores import ScoreOrder
from app.store.tenants import Principal
from app.store.text_sets import read_texts_at
from app.studies.service import read_study


@dataclass(frozen=True, slots=True)
class Subject:
    """A kind of work that evidence is about: how its ids begin, and how it is read."""

    prefix: Prefix
    read: Callable[[Session, Principal, UUID], Work]


SUBJECTS: Final[Mapping[SubjectKind, Subject]] = MappingProxyType(
    {
        SubjectKind.AUDIT: Subject(
            Prefix.AUDIT, lambda session, who, id_: read_audit(session, who.tenant_id, id_)
        ),
        SubjectKind.STUDY: Subject(
            Prefix.STUDY, lambda session, who, id_: read_study(session, who.tenant_id, id_)
        ),
        SubjectKind.EDIT: Subject(Prefix.EDIT, read_edit),
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
    session: Session, principal: Principal, kind: SubjectKind, identifier: UUID
) -> list[EvidenceFormatOut]:
    """The formats of some work by name, and whether they can be had now.

    Raises:
        NotFound: no such work for this tenant.
    """
    work = SUBJECTS[kind].read(session, principal, identifier)
    return [
        EvidenceFormatOut(
            name=each.name,
            title=each.title,
            media_type=each.media_type,
            available=work.status == OperationStatus.SUCCEEDED,
        )
        for each in FORMATS.values()
        if kind in each.subjects
    ]


async def read_record(
    store: Store, principal: Principal, kind: SubjectKind, identifier: UUID, *, texts: bool
) -> EvidenceRecord:
    """The record of finished work, all of it from one snapshot but the rows, which do not change.

    Args:
        store: where it is.
        principal: whose it is.
        kind: of the work.
        identifier: of the work.
        texts: whether texts are in the record.

    Raises:
        NotFound: no such work for this tenant.
        EvidenceNotReady: it has not ended, or ended without a result.
    """
    rows = Rows(store, principal.tenant_id, texts=texts)
    return await store.read(_assemble, principal, kind, identifier, rows, texts=texts)


def _assemble(
    session: Session, principal: Principal, kind: SubjectKind, identifier: UUID, rows: Rows, *, texts: bool
) -> EvidenceRecord:
    work = _read_finished(session, principal, kind, identifier)
    parts = parts_of(work)
    assert work.finished_at is not None
    return EvidenceRecord(
        kind=kind,
        id=work.id,
        resource=work,
        work=work,
        models=tuple(read_models(session, principal, parts.models)),
        text_sets=tuple(read_text_sets(session, principal, parts.text_sets)),
        artifact=read_recorded_artifact(session, principal, parts.artifact),
        audits=tuple(read_recorded_audits(session, principal, parts.audits)),
        worst=tuple(_read_worst(session, principal, parts.worst_of, texts=texts)),
        texts=texts,
        software=__version__,
        finished_at=work.finished_at,
        rows=rows,
    )


def _read_finished(session: Session, principal: Principal, kind: SubjectKind, identifier: UUID) -> Work:
    work = SUBJECTS[kind].read(session, principal, identifier)
    if work.status != OperationStatus.SUCCEEDED:
        raise EvidenceNotReady(f"The {kind} is {work.status}; evidence is given once it has succeeded.")
    return work


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
