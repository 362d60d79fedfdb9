"""What a version of a model line consists of: audits, studies and gates, and who waits for which."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import exists, literal, null, select, union_all
from sqlalchemy.orm import Session

from app.contracts.results.gates import Outcome
from app.store.audits import Audit
from app.store.companions import OperationAudit
from app.store.core.base import JSONObject
from app.store.core.identifiers import Prefix, format_id
from app.store.gates import SUBJECT_PREFIXES, Gate
from app.store.jobs.owners import GATE, MODEL_VERSION, STUDY, Owner
from app.store.model_lines import ModelVersion
from app.store.operations import is_active
from app.store.studies import Study

PREFIXES: Final = {**SUBJECT_PREFIXES, Gate.noun: Prefix.GATE}


class Part(NamedTuple):
    """An audit, a study or a gate that was made for a version, and where it stands.

    `finished_at` is null while it is open.
    """

    kind: str
    id: UUID
    status: str
    outcome: Outcome | None
    error: JSONObject | None
    finished_at: datetime

    @property
    def public_id(self) -> str:
        """Its id as clients know it."""
        return format_id(PREFIXES[self.kind], self.id)


def parts_of(session: Session, version_id: UUID) -> Sequence[Part]:
    """All parts of a version: audits, then studies, then gates, each oldest first."""
    facts = [
        select(literal(0).label("place"), literal(Audit.noun), Audit.id, Audit.status, null(), Audit.error)
        .add_columns(Audit.finished_at)
        .join(OperationAudit, OperationAudit.audit_id == Audit.id)
        .where(OperationAudit.owner_id == version_id),
        select(literal(1), literal(Study.noun), Study.id, Study.status, null(), Study.error)
        .add_columns(Study.finished_at)
        .where(Study.model_version_id == version_id),
        select(literal(2), literal(Gate.noun), Gate.id, Gate.status, Gate.outcome, Gate.error)
        .add_columns(Gate.finished_at)
        .where(Gate.model_version_id == version_id),
    ]
    rows = session.execute(union_all(*facts).order_by("place", "id"))
    return [Part(*row[1:]) for row in rows]


def studies_of(session: Session, version_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Study]]:
    """The studies of each version, in the order of the checks."""
    found: dict[UUID, list[Study]] = {version_id: [] for version_id in version_ids}
    statement = select(Study).where(Study.model_version_id.in_(version_ids)).order_by(Study.id)
    for row in session.scalars(statement):
        assert row.model_version_id is not None
        found[row.model_version_id].append(row)
    return found


def gates_of_versions(session: Session, version_ids: Sequence[UUID]) -> Mapping[UUID, Sequence[Gate]]:
    """The gates of each version, in the order in which they were made."""
    found: dict[UUID, list[Gate]] = {version_id: [] for version_id in version_ids}
    statement = select(Gate).where(Gate.model_version_id.in_(version_ids)).order_by(Gate.id)
    for row in session.scalars(statement):
        assert row.model_version_id is not None
        found[row.model_version_id].append(row)
    return found


def attach(session: Session, version_id: UUID, parts: Sequence[Study | Gate]) -> None:
    """Say for which version studies and gates were made, in the transaction that makes them."""
    for part in parts:
        part.model_version_id = version_id
    session.flush()


def take_version_of(session: Session, owner: Owner, owner_id: UUID) -> None:
    """Lock the version that a study or a gate was made for, before that is locked itself."""
    if owner not in (STUDY, GATE):
        return
    table = Study if owner is STUDY else Gate
    mine = select(table.model_version_id).where(table.id == owner_id)
    session.execute(
        select(ModelVersion.id)
        .where(ModelVersion.id.in_(mine), is_active(ModelVersion))
        .with_for_update(key_share=True)
    )


def versions_of(session: Session, owner: Owner, owner_id: UUID) -> Sequence[UUID]:
    """The versions that an audit, a study or a gate is a part of, the oldest first."""
    if owner in (STUDY, GATE):
        table = Study if owner is STUDY else Gate
        found = select(table.model_version_id).where(table.id == owner_id)
    else:
        found = select(OperationAudit.owner_id).where(
            OperationAudit.audit_id == owner_id, OperationAudit.owner_kind == MODEL_VERSION.kind
        )
    statement = select(ModelVersion.id).where(ModelVersion.id.in_(found), is_active(ModelVersion))
    return session.scalars(statement.order_by(ModelVersion.id)).all()


def open_parts(session: Session, version_id: UUID, kind: type[Study | Gate]) -> Sequence[UUID]:
    """The studies or the gates of a version that have not ended."""
    statement = select(kind.id).where(kind.model_version_id == version_id, is_active(kind))
    return session.scalars(statement.order_by(kind.id)).all()


def untold_versions(session: Session) -> Sequence[UUID]:
    """The versions that nobody told of the end of their last part, as an older release does not."""
    audits = exists().where(
        OperationAudit.owner_id == ModelVersion.id, OperationAudit.audit_id == Audit.id, is_active(Audit)
    )
    others = [
        exists().where(kind.model_version_id == ModelVersion.id, is_active(kind)) for kind in (Study, Gate)
    ]
    statement = select(ModelVersion.id).where(is_active(ModelVersion), ~audits, *(~each for each in others))
    return session.scalars(statement.order_by(ModelVersion.id)).all()
