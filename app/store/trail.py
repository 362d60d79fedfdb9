"""The audit trail: who did what, written with what was done and never again.

A row names resources by their ids and holds no text. A sealing step gives rows their places, one after
another, and chains each to the one before: no transaction waits for another to write its own.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, Index, Text, insert, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey
from app.store.tenants import Principal

# Whoever is no principal: a command on the machine, or the service itself.
COMMAND_LINE: Final = "command-line"
SERVICE: Final = "service"

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
    TEXT_SET_READ = "text_set.read"
    TEXT_SET_ERASED = "text_set.erased"
    WORK_REQUESTED = "work.requested"
    WORK_CANCELLED = "work.cancelled"
    SCORES_EXPORTED = "scores.exported"
    EVIDENCE_READ_IN_FULL = "evidence.read_in_full"
    GATE_DECIDED = "gate.decided"
    MASTER_KEY_ROTATED = "master_key.rotated"
    ARTIFACT_DOWNLOADED = "artifact.downloaded"


class TrailEntry(Base):
    """Something that somebody did. Triggers refuse every change but the sealing, once."""

    __tablename__ = "trail"
    __table_args__ = (
        Index("ix_trail_tenant_id_place", "tenant_id", "place"),
        Index("ix_trail_unsealed", "id", postgresql_where=text("place IS NULL")),
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
    session.execute(
        insert(TrailEntry).values(
            tenant_id=tenant_id, actor=actor, action=action, subject=subject, facts=dict(facts or {})
        )
    )


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
