"""Giving keys and secrets another master key, and which master keys are needed."""

from collections import Counter
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.sealing.keyring import SECRET, Wrapped
from app.store.data_keys import (
    InstanceKey,
    TextSetKey,
    keyring_of,
    place_of_instance,
    place_of_text_set,
)
from app.store.webhooks import WebhookSecret

# The columns that hold what `seal_secret` sealed.
SEALED_SECRETS: Final = (WebhookSecret.sealed,)


def master_keys_needed(session: Session) -> Counter[str]:
    """How many keys and secrets each master key wraps, by its id."""
    needed: Counter[str] = Counter()
    for table in (TextSetKey, InstanceKey):
        counted = select(table.master_key_id, func.count()).group_by(table.master_key_id)
        needed.update(dict(session.execute(counted).all()))
    for column in SEALED_SECRETS:
        needed.update(Wrapped.read(sealed).key_id for sealed in session.scalars(select(column)))
    return needed


def rewrap_text_set_keys(session: Session, master_key_id: str, after: UUID, limit: int) -> list[UUID]:
    """Wrap data keys anew that another master key wraps than the one that wraps now.

    Args:
        session: of the caller, who commits. What reads a key meanwhile reads it as it was.
        master_key_id: of the key that wraps now.
        after: the last text set of the batch before.
        limit: how many at most.

    Returns:
        The ids of their text sets in order; none once all are done.

    Raises:
        KeyUnavailable: a master key that wraps one of them is not here.
    """
    statement = (
        select(TextSetKey)
        .where(TextSetKey.master_key_id != master_key_id, TextSetKey.text_set_id > after)
        .order_by(TextSetKey.text_set_id)
        .limit(limit)
        .with_for_update()
    )
    rows = session.scalars(statement).all()
    for row in rows:
        _rewrap(session, row, place_of_text_set(row.text_set_id))
    return [row.text_set_id for row in rows]


def rewrap_others(session: Session, master_key_id: str) -> int:
    """Wrap the keys of the instance and its secrets anew, as `rewrap_text_set_keys` does; how many."""
    statement = select(InstanceKey).where(InstanceKey.master_key_id != master_key_id).with_for_update()
    keys = session.scalars(statement).all()
    for row in keys:
        _rewrap(session, row, place_of_instance(row.name))
    return len(keys) + sum(_rewrap_secrets(session, column, master_key_id) for column in SEALED_SECRETS)


def _rewrap(session: Session, row: TextSetKey | InstanceKey, place: bytes) -> None:
    keyring = keyring_of(session)
    wrapped = keyring.wrap(keyring.unwrap(row.wrapped, place), place)
    row.wrapped, row.master_key_id = wrapped.write(), wrapped.key_id


def _rewrap_secrets(session: Session, column: InstrumentedAttribute[bytes], master_key_id: str) -> int:
    keyring = keyring_of(session)
    count = 0
    for row in session.scalars(select(column.class_).with_for_update()):
        sealed: bytes = getattr(row, column.key)
        if Wrapped.read(sealed).key_id != master_key_id:
            setattr(row, column.key, keyring.wrap(keyring.unwrap(sealed, SECRET), SECRET).write())
            count += 1
    return count
