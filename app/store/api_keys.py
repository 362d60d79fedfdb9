"""API keys. Of a key only its SHA-256 is kept."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, ForeignKey, Row, Select, Text, and_, func, or_, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.contracts.tenants import Quotas
from app.errors import NotFound, TooManyKeys
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, newest_first
from app.store.tenants import Principal, Tenant, get_tenant

KEY_PREFIX: Final = "mak_"
# The one in use, and the one that takes its place.
LIVE_KEYS_OF_A_NAME: Final = 2
# When a key was last used is known to about this, so that reading writes next to nothing.
USE_NOTED_EVERY: Final = timedelta(minutes=10)


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


def digest_key(key: str) -> str:
    """The SHA-256 under which a key is stored (keys carry 256 random bits, so no salt is needed)."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def is_live() -> ColumnElement[bool]:
    """The condition that a key is neither revoked nor expired."""
    return and_(APIKey.revoked_at.is_(None), or_(APIKey.expires_at.is_(None), APIKey.expires_at > func.now()))


def create_key(
    session: Session,
    tenant_id: UUID,
    *,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
) -> tuple[APIKey, str]:
    """Make a key. While one of its name lives there may be a second, to change over to.

    Returns:
        The stored row and the key itself, which is shown once and cannot be read again.

    Raises:
        NotFound: there is no such tenant.
        TooManyKeys: two keys of this name live.
    """
    tenant = get_tenant(session, tenant_id, lock=True)
    live = select(func.count()).where(APIKey.tenant_id == tenant.id, APIKey.name == name, is_live())
    if session.scalars(live).one() >= LIVE_KEYS_OF_A_NAME:
        raise TooManyKeys
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    row = APIKey(
        tenant_id=tenant.id,
        name=name,
        sha256=digest_key(key),
        hint=key[-4:],
        scopes=list(scopes),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row, key


def list_keys(session: Session, tenant_id: UUID, before: UUID | None, limit: int) -> list[APIKey]:
    """A tenant's keys, newest first; also those that are no good any more."""
    return newest_first(
        session, select(APIKey).where(APIKey.tenant_id == tenant_id), APIKey.id, before, limit
    )


def list_all_keys(session: Session) -> list[tuple[APIKey, str]]:
    """All keys with the names of their tenants, oldest first."""
    statement = select(APIKey, Tenant.name).join(Tenant, Tenant.id == APIKey.tenant_id).order_by(APIKey.id)
    return [(row, tenant) for row, tenant in session.execute(statement)]


def get_key(session: Session, key_id: UUID | None) -> APIKey:
    """A key, whosever it is.

    Raises:
        NotFound: there is none of this id.
    """
    row = session.get(APIKey, key_id) if key_id is not None else None
    if row is None:
        raise NotFound("There is no such API key.")
    return row


def revoke_key(session: Session, key_id: UUID) -> APIKey | None:
    """Revoke a key for good; None when there is no such key or it was revoked before."""
    return session.scalar(
        update(APIKey)
        .where(APIKey.id == key_id, APIKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(APIKey)
        .execution_options(populate_existing=True)
    )


def revoke_keys_of_name(session: Session, tenant_id: UUID, name: str) -> Sequence[APIKey]:
    """Revoke the keys of a name that a tenant has.

    Returns:
        Those that were not revoked before.
    """
    return session.scalars(
        update(APIKey)
        .where(APIKey.tenant_id == tenant_id, APIKey.name == name, APIKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(APIKey)
    ).all()


def find_principal(session: Session, key: str) -> Principal | None:
    """Whose key this is; None when it is unknown, revoked or expired, or its tenant is disabled."""
    row = session.execute(keys_in_use().where(APIKey.sha256 == digest_key(key))).one_or_none()
    return None if row is None else principal_of(session, row)


def keys_in_use() -> Select[APIKey, str, JSONObject, bool]:
    """The keys that are good for something.

    Each comes with its tenant's name and quotas, and whether to note its use.
    """
    noted = func.coalesce(APIKey.last_used_at > func.now() - USE_NOTED_EVERY, False)
    return (
        select(APIKey, Tenant.name, Tenant.quotas, ~noted)
        .join(Tenant, Tenant.id == APIKey.tenant_id)
        .where(is_live(), Tenant.disabled_at.is_(None))
    )


def principal_of(session: Session, row: Row[APIKey, str, JSONObject, bool]) -> Principal:
    """Who asks by one of `keys_in_use`, whose use is noted now and then."""
    api_key, tenant_name, quotas, note = row
    if note:
        # Whoever else notes it right now does so for all.
        free = (
            select(APIKey.id).where(APIKey.id == api_key.id).with_for_update(skip_locked=True, key_share=True)
        )
        session.execute(
            update(APIKey)
            .where(APIKey.id.in_(free))
            .values(last_used_at=func.now())
            .execution_options(synchronize_session=False)
        )
    scopes = frozenset(api_key.scopes)
    return Principal(api_key.tenant_id, tenant_name, api_key.id, scopes, Quotas.stored(quotas))
