"""Sessions of people who signed in to the pages with an API key. Of a token only its SHA-256 is kept."""

import secrets
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ForeignKey, Index, Text, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.api_keys import APIKey, digest_key, keys_in_use, principal_of
from app.store.core.base import Base, CreatedAt
from app.store.tenants import Principal


class PageSession(Base):
    """A browser that acts with an API key until it signs out, the key ends or the time is over."""

    __tablename__ = "page_sessions"
    __table_args__ = (Index("ix_page_sessions_expires_at", "expires_at"),)

    sha256: Mapped[str] = mapped_column(Text, primary_key=True)
    api_key_id: Mapped[UUID] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]


def begin_session(session: Session, principal: Principal, lifetime: timedelta) -> str:
    """Begin a session of the key that a principal has, and forget those that are over.

    Returns:
        Its token, which cannot be read again.
    """
    assert principal.key_id is not None, "tokens begin no sessions"
    session.execute(delete(PageSession).where(PageSession.expires_at <= func.now()))
    token = secrets.token_urlsafe(32)
    session.add(
        PageSession(
            sha256=digest_key(token),
            api_key_id=principal.key_id,
            expires_at=session.scalars(select(func.now() + lifetime)).one(),
        )
    )
    session.flush()
    return token


def find_session(session: Session, token: str) -> Principal | None:
    """Who signed in; None when the session is unknown or over, or its key is no good any more."""
    statement = (
        keys_in_use()
        .join(PageSession, PageSession.api_key_id == APIKey.id)
        .where(PageSession.sha256 == digest_key(token), PageSession.expires_at > func.now())
    )
    row = session.execute(statement).one_or_none()
    return None if row is None else principal_of(session, row)


def end_session(session: Session, token: str) -> None:
    """Forget a session, if there is one of this token."""
    session.execute(delete(PageSession).where(PageSession.sha256 == digest_key(token)))
