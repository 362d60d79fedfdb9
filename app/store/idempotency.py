"""Idempotency keys: the first answer to a key is kept and given again, in the transaction of the work."""

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ForeignKey, Text, and_, bindparam, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import IdempotencyInFlight, IdempotencyMismatch
from app.store.core.base import Base, CreatedAt, JSONObject
from app.store.data_keys import KEYED_MARK, keyed_fingerprint, keyed_fingerprints


class IdempotencyKey(Base):
    """What was answered when a key was first used."""

    __tablename__ = "idempotency_keys"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text)
    response: Mapped[JSONObject]
    created_at: Mapped[CreatedAt] = mapped_column(index=True)


# One statement takes the key and looks for its answer.
_LOCK: Final = func.pg_try_advisory_xact_lock(func.hashtextextended(bindparam("lock"), 0))
_TAKEN: Final = select(_LOCK.label("taken")).subquery()
_TAKING: Final = select(_TAKEN.c.taken, IdempotencyKey.fingerprint, IdempotencyKey.response).select_from(
    _TAKEN.outerjoin(
        IdempotencyKey,
        and_(IdempotencyKey.tenant_id == bindparam("tenant_id"), IdempotencyKey.key == bindparam("key")),
    )
)


_REMEMBERING: Final = insert(IdempotencyKey).on_conflict_do_nothing().returning(IdempotencyKey.key)


def recall(
    session: Session, *, tenant_id: UUID, key: str, digests: Callable[[], Collection[str]]
) -> JSONObject | None:
    """Take the key for this transaction and return the answer it was first given, if any.

    `digests` gives, when it is asked, the hexadecimal digests that this request may be known by.

    Raises:
        IdempotencyInFlight: another transaction holds the key right now.
        IdempotencyMismatch: the key was used before with a request that has none of the digests.
        KeyUnavailable: the key of the instance cannot be opened.
    """
    row = session.execute(_TAKING, {"lock": f"{tenant_id}:{key}", "tenant_id": tenant_id, "key": key}).one()
    if not row.taken:
        raise _in_flight()
    if row.fingerprint is None:
        return None
    # Processes of an older release write the digest itself.
    known = set(digests())
    if row.fingerprint not in known | keyed_fingerprints(session, known):
        raise IdempotencyMismatch("This Idempotency-Key was used with another request; choose a new one.")
    response: JSONObject = row.response
    return response if row.fingerprint.startswith(KEYED_MARK) else without_digests(response)


def without_digests(answer: JSONObject) -> JSONObject:
    """A stored answer without the digests of texts that it had. Their fields are null in what is answered."""
    kept = {name: value for name, value in answer.items() if name != "text_set_sha256"}
    if kept.get("object") == "text_set":
        kept.pop("sha256", None)
    if isinstance(digests := kept.get("digests"), dict):
        kept["digests"] = digests | {"text_set": None}
    if isinstance(registered := kept.get("preregistration"), dict):
        kept["preregistration"] = {
            name: value for name, value in registered.items() if name != "text_set_sha256"
        }
    return kept


def remember(session: Session, *, tenant_id: UUID, key: str, digest: str, response: JSONObject) -> None:
    """Record the answer; it becomes durable together with the work it announces.

    Of the request, which may hold texts, a digest is kept against which nobody can try guesses.

    Raises:
        IdempotencyInFlight: the key was taken between the two halves of `recall`: by a request that was
            committed after the key was looked up and before its lock was free.
        KeyUnavailable: the key of the instance cannot be opened.
    """
    session.flush()
    fingerprint = keyed_fingerprint(session, digest)
    values = {"tenant_id": tenant_id, "key": key, "fingerprint": fingerprint, "response": response}
    # Past the session, which need not know of a row that nobody reads again.
    if session.connection().execute(_REMEMBERING, values).one_or_none() is None:
        raise _in_flight()


def _in_flight() -> IdempotencyInFlight:
    return IdempotencyInFlight("A request with this Idempotency-Key is in flight; repeat it later.")


def forget_old_keys(session: Session, *, older_than: timedelta) -> None:
    """Forget the answers to keys that were first used long ago."""
    age = func.clock_timestamp() - older_than
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < age))
