"""Policies: immutable, and counted up by their names."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, UniqueConstraint, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import NotFound
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, has_metadata, newest_first
from app.store.core.identifiers import Prefix, parse_id
from app.store.tenants import Tenant


class Policy(Base):
    """What a tenant asks of subjects. No column is ever written again."""

    __tablename__ = "policies"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name", "version"),
        Index("ix_policies_tenant_id_id", "tenant_id", "id"),
    )

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    description: Mapped[str | None] = mapped_column(Text)
    template: Mapped[str | None] = mapped_column(Text)
    rules: Mapped[list[Any]] = mapped_column(JSONB)
    sha256: Mapped[str] = mapped_column(Text)
    metadata_: Mapped[JSONObject] = mapped_column("metadata", default=dict)
    created_at: Mapped[CreatedAt]


def next_version(session: Session, tenant_id: UUID, name: str) -> int:
    """The version that a tenant's next policy of this name has, from 1.

    No other policy of the tenant can be written before the transaction ends.
    """
    session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update(key_share=True))
    statement = select(func.max(Policy.version)).where(Policy.tenant_id == tenant_id, Policy.name == name)
    return (session.scalar(statement) or 0) + 1


def get_policy(session: Session, tenant_id: UUID, public_id: str) -> Policy:
    """A tenant's policy.

    Raises:
        NotFound: no such policy for this tenant.
    """
    policy_id = parse_id(Prefix.POLICY, public_id)
    row = session.scalars(
        select(Policy).where(Policy.id == policy_id, Policy.tenant_id == tenant_id)
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such policy.")
    return row


def list_policies(
    session: Session,
    tenant_id: UUID,
    before: UUID | None,
    limit: int,
    *,
    name: str | None = None,
    metadata: dict[str, str],
) -> list[Policy]:
    """A tenant's policies, all or those of one name, newest first."""
    statement = select(Policy).where(Policy.tenant_id == tenant_id, has_metadata(Policy.metadata_, metadata))
    if name is not None:
        statement = statement.where(Policy.name == name)
    return newest_first(session, statement, Policy.id, before, limit)
