"""Idempotency keys: the first answer to a key is kept and given again, in the transaction of the work."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ForeignKey, Text, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import IdempotencyInFlight, IdempotencyMismatch
from app.store.core.base import Base, CreatedAt, JSONObject
from app.store.data_keys import keyed_fingerprint


class IdempotencyKey(Base):
    """What was answered when a key was first used."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text)
    response: Mapped[JSONObject]
    created_at: Mapped[CreatedAt] = mapped_column(index=True)


def recall(session: Session, *, tenant_id: UUID, key: str, digests: Collection[str]) -> JSONObject | None:
    """Take the key for this transaction and return the answer it was first given, if any.

    The request is the same if the digest of the first one is among the `digests`, which are hexadecimal.

    Raises:
        IdempotencyInFlight: another transaction holds the key right now.
        IdempotencyMismatch: the key was used before with a request that has none of the digests.
        KeyUnavailable: the key of the instance cannot be opened.
    """
    lock = func.hashtextextended(f"{tenant_id}:{key}", 0)
    if not session.scalar(select(func.pg_try_advisory_xact_lock(lock))):
        raise IdempotencyInFlight("A request with this Idempotency-Key is in flight; repeat it later.")
    row = session.get(IdempotencyKey, (tenant_id, key))
    if row is None:
        return None
    # Processes of an older release write the digest itself.
    if row.fingerprint not in {*digests, *(keyed_fingerprint(session, digest) for digest in digests)}:
        raise IdempotencyMismatch("This Idempotency-Key was used with another request; choose a new one.")
    return row.response


def remember(session: Session, *, tenant_id: UUID, key: str, digest: str, response: JSONObject) -> None:
    """Record the answer; it becomes durable together with the work it announces.

    Of the request, which may hold texts, a digest is kept against which nobody can try guesses.
    """
    fingerprint = keyed_fingerprint(session, digest)
    session.add(
        IdempotencyKey(tenant_id=tenant_id, key=key, fingerprint=fingerprint, response=response),
    )


def forget_old_keys(session: Session, *, older_than: timedelta) -> None:
    """Forget the answers to keys that were first used long ago."""
    age = func.clock_timestamp() - older_than
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < age))
