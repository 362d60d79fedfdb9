"""Tenants and their API keys. Of a key only its SHA-256 is kept."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, ForeignKey, Text, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey
from app.store.core.identifiers import Prefix, format_id

KEY_PREFIX = "mak_"
SCOPES = ("audit:read", "audit:write", "audit:evidence", "edit:read", "edit:write", "admin")


class Tenant(Base):
    """Whoever owns resources; nobody else can see them."""

    __tablename__ = "tenants"

    id: Mapped[PrimaryKey]
    name: Mapped[str] = mapped_column(Text, unique=True)
    quotas: Mapped[JSONObject] = mapped_column(default=dict, server_default="{}")
    retention: Mapped[JSONObject] = mapped_column(default=dict, server_default="{}")
    created_at: Mapped[CreatedAt]
    disabled_at: Mapped[datetime | None]


class APIKey(Base):
    """A bearer key of a tenant with the scopes it may use."""

    __tablename__ = "api_keys"

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(Text, unique=True)
    hint: Mapped[str] = mapped_column(Text)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


@dataclass(frozen=True)
class Principal:
    """Who is asking: the tenant, what may be done, and by what that was shown: an API key or a signed token."""

    tenant_id: UUID
    tenant_name: str
    key_id: UUID | None
    scopes: frozenset[str]
    token_subject: str | None = None

    @property
    def actor(self) -> str:
        """Who it is in the trail: the id of the key, or the subject of the token."""
        if self.key_id is None:
            return f"oidc:{self.token_subject}"
        return format_id(Prefix.API_KEY, self.key_id)


def digest_key(key: str) -> str:
    """The SHA-256 under which a key is stored (keys carry 256 random bits, so no salt is needed)."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def create_key(session: Session, *, tenant: str, name: str, scopes: list[str]) -> tuple[APIKey, str]:
    """Make a key, and its tenant when there is none of that name.

    Returns:
        The stored row and the key itself, which is shown once and cannot be read again.
    """
    session.execute(insert(Tenant).values(name=tenant).on_conflict_do_nothing(index_elements=["name"]))
    tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == tenant)).one()
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    row = APIKey(tenant_id=tenant_id, name=name, sha256=digest_key(key), hint=key[-4:], scopes=scopes)
    session.add(row)
    session.flush()
    return row, key


def list_keys(session: Session) -> list[tuple[APIKey, str]]:
    """All keys with the names of their tenants, oldest first."""
    statement = select(APIKey, Tenant.name).join(Tenant, Tenant.id == APIKey.tenant_id).order_by(APIKey.id)
    return [(row, tenant) for row, tenant in session.execute(statement)]


def revoke_key(session: Session, key_id: UUID) -> bool:
    """Revoke a key for good; False when there is no such key or it was revoked before."""
    statement = (
        update(APIKey)
        .where(APIKey.id == key_id, APIKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(APIKey.id)
    )
    return session.scalar(statement) is not None


def find_principal(session: Session, key: str) -> Principal | None:
    """Whose key this is; None when it is unknown or revoked."""
    statement = (
        select(APIKey, Tenant.name)
        .join(Tenant, Tenant.id == APIKey.tenant_id)
        .where(APIKey.sha256 == digest_key(key), APIKey.revoked_at.is_(None))
    )
    row = session.execute(statement).one_or_none()
    if row is None:
        return None
    api_key, tenant_name = row
    return Principal(api_key.tenant_id, tenant_name, api_key.id, frozenset(api_key.scopes))
