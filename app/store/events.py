"""Events: what ended and how, kept for whoever asks later. Written with the change that they tell of.

An event names resources and holds no text. A trigger gives it its `place` when its transaction commits, one
transaction after another: so whoever has read up to a place has missed none before it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Text, func, insert, not_, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.contracts.results.gates import GATE_EVENTS
from app.errors import NotFound
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey
from app.store.core.identifiers import Prefix, format_id
from app.store.gates import SUBJECT_PREFIXES, Gate
from app.store.jobs.owners import EDIT, GATE, LANGUAGE_MODEL, MODEL_VERSION, TEXT_SET, Owner
from app.store.language_models import LanguageModel
from app.store.model_lines import ModelVersion
from app.store.operations import OperationStatus
from app.store.text_sets import TextSet, TextSetStatus
from app.store.trail import SERVICE, Action, record

PREFIXES: Final = {
    **SUBJECT_PREFIXES,
    GATE.kind: Prefix.GATE,
    MODEL_VERSION.kind: Prefix.MODEL_VERSION,
    LANGUAGE_MODEL.kind: Prefix.LANGUAGE_MODEL,
    TEXT_SET.kind: Prefix.TEXT_SET,
}


class Event(Base):
    """Something that happened. Nothing is written again but its place, at the commit."""

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_tenant_id_place", "tenant_id", "place"),
        Index("ix_events_model_version_id_place", "model_version_id", "place"),
        Index("ix_events_place", "place"),
    )

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    place: Mapped[int | None] = mapped_column(BigInteger)
    type: Mapped[str] = mapped_column(Text)
    subject_kind: Mapped[str] = mapped_column(Text)
    subject_id: Mapped[UUID]
    # The version of a model line that it is news of; null if it is of none.
    model_version_id: Mapped[UUID | None] = mapped_column(ForeignKey("model_versions.id", ondelete="CASCADE"))
    data: Mapped[JSONObject]
    created_at: Mapped[CreatedAt]

    @property
    def is_of_edit(self) -> bool:
        """Whether it tells of an edit or of a gate on one."""
        return self.subject_kind == EDIT.kind or str(self.data.get("judges")).startswith(_EDITS)


_EDITS: Final = f"{Prefix.EDIT}_"
# The same of a row.
IS_OF_EDIT: Final = or_(
    Event.subject_kind == EDIT.kind, func.coalesce(Event.data["judges"].astext, "").startswith(_EDITS)
)


def record_end(session: Session, owner: Owner, owner_id: UUID, status: StrEnum) -> None:
    """Tell of the end of work, of a validation or of an import, in the transaction that ends it.

    An import that ends because its text set is erased is told by the erasure.
    """
    if owner is TEXT_SET and status == TextSetStatus.CANCELLED:
        return
    if owner is GATE:
        _record_gate(session, owner_id, status)
    elif owner is MODEL_VERSION:
        version = session.get_one(ModelVersion, owner_id, populate_existing=True)
        record_version(session, version, f"version.{status}")
    else:
        tenant_id = session.scalars(select(owner.table.tenant_id).where(owner.table.id == owner_id)).one()
        _add(session, tenant_id, f"{owner.kind}.{status}", owner, owner_id, {"status": status})


def record_removal(session: Session, owner: Owner, row: LanguageModel | TextSet, status: str) -> None:
    """Tell that a language model was deleted or a text set erased, in the transaction that does it."""
    _add(session, row.tenant_id, f"{owner.kind}.{status}", owner, row.id, {"status": status})


def _record_gate(session: Session, gate_id: UUID, status: StrEnum) -> None:
    gate = session.get_one(Gate, gate_id, populate_existing=True)
    if gate.outcome is not None:
        told = GATE_EVENTS[gate.outcome]
    else:  # `gate.failed` is a decision
        told = "gate.undecided" if status == OperationStatus.FAILED else f"gate.{status}"
    data = {
        "status": status,
        "outcome": gate.outcome,
        "policy": format_id(Prefix.POLICY, gate.policy_id),
        "judges": gate.public_subject_id,
    }
    _add(session, gate.tenant_id, told, GATE, gate.id, data, version_id=gate.model_version_id)
    if gate.outcome is not None:
        record(
            session,
            tenant_id=gate.tenant_id,
            actor=SERVICE,
            action=Action.GATE_DECIDED,
            subject=format_id(Prefix.GATE, gate.id),
            facts={"outcome": gate.outcome},
        )


def record_version(session: Session, version: ModelVersion, told: str) -> None:
    """Tell that a version was registered, or how it ended."""
    data = {
        "status": version.status,
        "outcome": version.outcome,
        "model_line": format_id(Prefix.MODEL_LINE, version.model_line_id),
        "label": version.label,
    }
    _add(session, version.tenant_id, told, MODEL_VERSION, version.id, data, version_id=version.id)


def _add(
    session: Session,
    tenant_id: UUID,
    told: str,
    owner: Owner,
    owner_id: UUID,
    data: JSONObject,
    *,
    version_id: UUID | None = None,
) -> None:
    # At once, and so in the order in which things happen.
    session.execute(
        insert(Event).values(
            tenant_id=tenant_id,
            type=told,
            subject_kind=owner.kind,
            subject_id=owner_id,
            model_version_id=version_id,
            data=data,
        )
    )


def place_of(session: Session, tenant_id: UUID, event_id: UUID | None) -> int:
    """The place of a tenant's event.

    Raises:
        NotFound: no such event for this tenant.
    """
    place = session.scalar(select(Event.place).where(Event.id == event_id, Event.tenant_id == tenant_id))
    if place is None:
        raise NotFound("There is no such event.")
    return place


def list_events(
    session: Session,
    tenant_id: UUID,
    *,
    after: int,
    limit: int,
    edits: bool = True,
    version_id: UUID | None = None,
    line_id: UUID | None = None,
) -> Sequence[Event]:
    """A tenant's events after a place, the oldest first: all, or those of a version or a line.

    Those of edits and of gates on edits are left out unless they are asked for.
    """
    statement = select(Event).where(Event.tenant_id == tenant_id, Event.place > after)
    if not edits:
        statement = statement.where(not_(IS_OF_EDIT))
    if version_id is not None:
        statement = statement.where(Event.model_version_id == version_id)
    if line_id is not None:
        versions = select(ModelVersion.id).where(ModelVersion.model_line_id == line_id)
        statement = statement.where(Event.model_version_id.in_(versions))
    return session.scalars(statement.order_by(Event.place).limit(limit)).all()
