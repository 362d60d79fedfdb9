"""The keys that texts are sealed with and digests are made with, each wrapped by a master key."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Collection
from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, Text, delete, event, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import KeyUnavailable
from app.sealing.boxes import derive_key, new_key
from app.sealing.keyring import Keyring, get_keyring
from app.sealing.texts import TextSetSealer
from app.store.core.base import Base
from app.store.core.locks import lock_name

T = TypeVar("T")
KEYRING: Final = "keyring"  # under which a session may carry its own
# Under which sessions with a keyring share the wrapped keys of the instance: none of them ever gets another.
_WRAPPED: Final = "wrapped keys of the instance"
DIGESTS: Final = "digests"
KEYED_MARK: Final = "hmac-sha256:"


class TextSetKey(Base):
    """The data key of a text set. It goes with the texts, and then nothing opens what is left of them."""

    __tablename__ = "text_set_keys"

    text_set_id: Mapped[UUID] = mapped_column(
        ForeignKey("text_sets.id", ondelete="CASCADE"), primary_key=True
    )
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    master_key_id: Mapped[str] = mapped_column(Text, index=True)


class InstanceKey(Base):
    """A key that an instance has once, under the name of what it is for."""

    __tablename__ = "instance_keys"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    master_key_id: Mapped[str] = mapped_column(Text)


def with_keyring(keyring: Keyring) -> dict[str, Any]:
    """The `info` of sessions that work with some master keys, all on one database."""
    return {KEYRING: keyring, _WRAPPED: {}}


def keyring_of(session: Session) -> Keyring:
    """The master keys that a session works with: those of the process, unless it carries its own."""
    return session.info.get(KEYRING) or get_keyring()


def make_text_set_key(session: Session, text_set_id: UUID) -> TextSetSealer:
    """Make the data key of a text set that has none, wrapped by the newest master key.

    Raises:
        KeyUnavailable: there is no master key.
    """
    key = new_key()
    keep_text_set_key(session, text_set_id, key)
    return TextSetSealer(key, text_set_id)


def keep_text_set_key(session: Session, text_set_id: UUID, key: bytes) -> None:
    """Store the data key of a text set that has none, wrapped by the newest master key.

    What takes long to write texts does it last: a rotation does not see a key before the commit, and the
    master key that wrapped it could be taken away meanwhile.

    Raises:
        KeyUnavailable: there is no master key.
    """
    wrapped = _aside(session, lambda: keyring_of(session).wrap(key, place_of_text_set(text_set_id)))
    row = {"text_set_id": text_set_id, "wrapped": wrapped.write(), "master_key_id": wrapped.key_id}
    session.execute(insert(TextSetKey).values(row))


def ensure_text_set_sealer(session: Session, text_set_id: UUID) -> TextSetSealer:
    """What seals and opens for a text set. A set of an older release gets its key when it is first needed.

    Raises:
        KeyUnavailable: there is no master key, or not the one that wraps its key.
    """
    sealer = text_set_sealer(session, text_set_id)
    if sealer is not None:
        return sealer
    # Whoever else finds none waits here.
    lock_name(session, f"key:{text_set_id}")
    return text_set_sealer(session, text_set_id) or make_text_set_key(session, text_set_id)


def text_set_sealer(session: Session, text_set_id: UUID) -> TextSetSealer | None:
    """What opens the texts of a set; None if it has no key: it was erased, or its texts are not there yet.

    Raises:
        KeyUnavailable: the master key that wraps it is not here.
        SealBroken: the wrapped key was changed, or is of another set.
    """
    wrapped = session.scalar(select(TextSetKey.wrapped).where(TextSetKey.text_set_id == text_set_id))
    if wrapped is None:
        return None
    place = place_of_text_set(text_set_id)
    return TextSetSealer(_aside(session, lambda: keyring_of(session).unwrap(wrapped, place)), text_set_id)


def erase_text_set_key(session: Session, text_set_id: UUID) -> None:
    """Take the key of a text set away for good. No process can open its texts once this is committed."""
    wrapped = session.scalar(
        delete(TextSetKey).where(TextSetKey.text_set_id == text_set_id).returning(TextSetKey.wrapped)
    )
    if wrapped is not None:
        keyring_of(session).forget(wrapped, place_of_text_set(text_set_id))


def place_of_text_set(text_set_id: UUID) -> bytes:
    """What binds a wrapped data key to its set."""
    return b"text set" + text_set_id.bytes


def place_of_instance(name: str) -> bytes:
    """What binds a wrapped key of the instance to its name."""
    return b"instance" + name.encode()


def keyed_digest(session: Session, tenant_id: UUID, sha256: str) -> str:
    """The HMAC-SHA-256 of a SHA-256 under the key of a tenant, both hexadecimal.

    Without the key nobody can try texts against it. The same texts of one tenant have the same digest.

    Raises:
        KeyUnavailable: the key of the instance cannot be opened.
    """
    key = derive_key(_instance_key(session, DIGESTS), b"memaudit texts of tenant" + tenant_id.bytes)
    return hmac.digest(key, bytes.fromhex(sha256), hashlib.sha256).hex()


def keyed_fingerprint(session: Session, sha256: str) -> str:
    """What is kept of a request: the HMAC-SHA-256 of its SHA-256 under a key of the instance, and a mark.

    Raises:
        KeyUnavailable: the key of the instance cannot be opened.
    """
    (fingerprint,) = keyed_fingerprints(session, [sha256])
    return fingerprint


def keyed_fingerprints(session: Session, sha256s: Collection[str]) -> set[str]:
    """As `keyed_fingerprint`, of several digests; the key is asked for once.

    Raises:
        KeyUnavailable: the key of the instance cannot be opened.
    """
    key = derive_key(_instance_key(session, DIGESTS), b"memaudit requests")
    return {KEYED_MARK + hmac.digest(key, bytes.fromhex(each), hashlib.sha256).hex() for each in sha256s}


def require_keys(session: Session) -> None:
    """Refuse to work with master keys that open nothing here.

    Raises:
        KeyUnavailable: there is no master key, or not the one that is needed.
        SealBroken: the key of the instance was changed.
    """
    keyring_of(session).require()
    _instance_key(session, DIGESTS)


def _instance_key(session: Session, name: str) -> bytes:
    """A key of the instance; it is made when it is first asked for."""
    place = place_of_instance(name)
    known: dict[str, bytes] = session.info.get(_WRAPPED, {})
    find = select(InstanceKey.wrapped).where(InstanceKey.name == name)
    kept = known.get(name)
    if kept is not None:
        try:
            return _aside(session, lambda: keyring_of(session).unwrap(kept, place))
        except KeyUnavailable:
            if session.scalar(find) == kept:  # else it was wrapped anew
                raise
    stored = session.scalar(find)
    if stored is None:
        wrapped = _aside(session, lambda: keyring_of(session).wrap(new_key(), place))
        row = {"name": name, "wrapped": wrapped.write(), "master_key_id": wrapped.key_id}
        session.execute(insert(InstanceKey).values(row).on_conflict_do_nothing())
        stored = session.scalars(find).one()
    key = _aside(session, lambda: keyring_of(session).unwrap(stored, place))
    # Before the commit it may be one that this transaction made, and that is not there if it fails.
    event.listen(session, "after_commit", lambda _: known.update({name: stored}), once=True)
    return key


def _aside(session: Session, ask: Callable[[], T]) -> T:
    """Ask the master keys. That may run a program, for which an event loop must not wait."""
    connection = session.connection().connection.dbapi_connection
    run_async = getattr(connection, "run_async", None)
    if run_async is None or not keyring_of(session).runs_a_program:
        return ask()
    answer: T = run_async(lambda _driver: asyncio.to_thread(ask))
    return answer
