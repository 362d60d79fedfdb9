"""The audit trail: who did what, written with what was done and never again.

A row names resources by their ids and holds no text. Rows are given their places later, one after another,
each chained to the one before: no transaction waits for another to write its own.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, Index, Text, func, insert, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.contracts.trail import BEGINNING, TrailEntryOut
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey
from app.store.core.identifiers import Prefix, format_id
from app.store.tenants import Principal, ensure_tenant, make_tenant

# Whoever is no principal: a command on the machine, or the service itself.
COMMAND_LINE: Final = "command-line"
SERVICE: Final = "service"
_CHAIN: Final = "memaudit.trail"

Fact = str | int | bool | None | list[str]


class Action(StrEnum):
    """What can be in the trail."""

    TENANT_CREATED = "tenant.created"
    TENANT_CHANGED = "tenant.changed"
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    SIGNED_IN = "session.begun"
    SIGNED_OUT = "session.ended"
    MODEL_REGISTERED = "model.registered"
    MODEL_DELETED = "model.deleted"
    TEXT_SET_CREATED = "text_set.created"
    TEXTS_READ = "text_set.read"
    TEXT_SET_ERASED = "text_set.erased"
    WORK_REQUESTED = "work.requested"
    WORK_CANCELLED = "work.cancelled"
    SCORES_EXPORTED = "scores.exported"
    TOKENS_READ = "tokens.read"
    EVIDENCE_WITH_TEXTS_READ = "evidence_with_texts.read"
    GATE_DECIDED = "gate.decided"
    MASTER_KEY_ROTATED = "master_key.rotated"
    ARTIFACT_DOWNLOADED = "artifact.downloaded"
    ARTIFACT_DELETED = "artifact.deleted"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_DELETED = "webhook.deleted"
    WEBHOOK_ROTATED = "webhook.rotated"
    WEBHOOK_REPLAYED = "webhook.replayed"
    WEBHOOK_TESTED = "webhook.tested"


class TrailEntry(Base):
    """Something that somebody did. Triggers refuse every change but that it is chained, once."""

    __tablename__ = "trail"
    __table_args__ = (
        Index("ix_trail_tenant_id_place", "tenant_id", "place"),
        Index("ix_trail_unchained", "id", postgresql_where=text("place IS NULL")),
    )

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID | None]
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    subject: Mapped[str | None] = mapped_column(Text)
    facts: Mapped[JSONObject]
    created_at: Mapped[CreatedAt]
    place: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    previous_sha256: Mapped[str | None] = mapped_column(Text)
    sha256: Mapped[str | None] = mapped_column(Text)


# A statement on the table, not on objects, takes a third of the time.
_ADD: Final = insert(Base.metadata.tables[TrailEntry.__tablename__])


def record(
    session: Session,
    *,
    tenant_id: UUID | None,
    actor: str,
    action: Action,
    subject: str | None,
    facts: Mapping[str, Fact] | None = None,
) -> None:
    """Write down that something was done, in the transaction that does it.

    Args:
        session: the transaction.
        tenant_id: whose it is; None if it concerns the instance.
        actor: who did it, as `Principal.actor` says; or `COMMAND_LINE` or `SERVICE`.
        action: what was done.
        subject: the public id of what it was done to.
        facts: what else there is to know: ids, names of formats, numbers; nothing that a client wrote.
    """
    values = {
        "tenant_id": tenant_id,
        "actor": actor,
        "action": action,
        "subject": subject,
        "facts": dict(facts or {}),
    }
    session.execute(_ADD, values)


def record_request(
    session: Session,
    principal: Principal,
    action: Action,
    subject: str | None,
    facts: Mapping[str, Fact] | None = None,
    *,
    tenant_id: UUID | None = None,
) -> None:
    """Write down what a principal did: to what is its own, or to what another tenant has."""
    record(
        session,
        tenant_id=tenant_id or principal.tenant_id,
        actor=principal.actor,
        action=action,
        subject=subject,
        facts=facts,
    )


def ensure_tenant_by(session: Session, name: str, *, actor: str) -> UUID:
    """The id of the tenant of a name; when there is none it is made, and that is written down."""
    made = make_tenant(session, name)
    if made is None:
        return ensure_tenant(session, name)
    subject = format_id(Prefix.TENANT, made)
    record(session, tenant_id=made, actor=actor, action=Action.TENANT_CREATED, subject=subject)
    return made


def chain_entries(session: Session, limit: int) -> int:
    """Give the next unchained entries their places, oldest first, unless another process does so right now.

    Returns:
        How many.
    """
    if not session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(_CHAIN, 0)))):
        return 0
    newest = select(TrailEntry.place, TrailEntry.sha256).where(TrailEntry.place.is_not(None))
    last = session.execute(newest.order_by(TrailEntry.place.desc()).limit(1)).one_or_none()
    last_place, previous = last or (0, BEGINNING)
    assert last_place is not None
    unchained = select(TrailEntry).where(TrailEntry.place.is_(None)).order_by(TrailEntry.id).limit(limit)
    rows = session.scalars(unchained).all()
    for place, row in enumerate(rows, start=last_place + 1):
        row.place, row.previous_sha256, row.sha256 = place, previous, ""
        previous = row.sha256 = answer_entry(row).digest()
    session.flush()
    return len(rows)


def answer_entry(row: TrailEntry) -> TrailEntryOut:
    """A chained entry as it is answered, and as its digest sees it."""
    assert row.place is not None
    assert row.previous_sha256 is not None
    assert row.sha256 is not None
    return TrailEntryOut(
        id=format_id(Prefix.TRAIL_ENTRY, row.id),
        place=row.place,
        tenant=None if row.tenant_id is None else format_id(Prefix.TENANT, row.tenant_id),
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        facts=row.facts,
        created_at=row.created_at,
        previous_sha256=row.previous_sha256,
        sha256=row.sha256,
    )


def list_entries(
    session: Session, *, after: int, limit: int, tenant_id: UUID | None = None, action: str | None = None
) -> Sequence[TrailEntry]:
    """Chained entries after a place, in their order: all, those of a tenant, those of an action."""
    statement = select(TrailEntry).where(TrailEntry.place > after)
    if tenant_id is not None:
        statement = statement.where(TrailEntry.tenant_id == tenant_id)
    if action is not None:
        statement = statement.where(TrailEntry.action == action)
    return session.scalars(statement.order_by(TrailEntry.place).limit(limit)).all()


def newest_entry(session: Session) -> TrailEntry | None:
    """The last chained entry."""
    statement = select(TrailEntry).where(TrailEntry.place.is_not(None))
    return session.scalars(statement.order_by(TrailEntry.place.desc()).limit(1)).one_or_none()


def count_unchained(session: Session) -> int:
    """How many entries wait for their places."""
    statement = select(func.count()).select_from(TrailEntry).where(TrailEntry.place.is_(None))
    return session.scalars(statement).one()
