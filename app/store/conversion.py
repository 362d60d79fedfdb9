"""Converting what older releases wrote: texts and evidence are sealed, digests are keyed.

It is done in batches beside everything else, can be broken off at any time and goes on where it stopped. Rows
are read in both forms, so that processes of an older release may still write while those of this one read.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Exists, Select, and_, exists, func, not_, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from app.sealing.keyring import Keyring
from app.store.audits import Audit
from app.store.core.away import others_are_ahead
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.data_keys import KEYED_MARK, ensure_text_set_sealer, keyed_fingerprint, with_keyring
from app.store.idempotency import IdempotencyKey, without_digests
from app.store.keyed_digests import key_digest
from app.store.text_sets import TextSet
from app.store.texts import TextRow, clear_text, sealed_columns
from app.store.token_evidence import TokenEvidence, seal_row

ROWS_AT_ONCE: Final = 500
_TEXT_SETS_AT_ONCE: Final = 20
# Well below the second after which Postgres looks for a deadlock.
_LOCK_MILLISECONDS: Final = 200
_PATIENCE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.5


def convert_some(session: Session, limit: int = ROWS_AT_ONCE) -> int:
    """Convert some of what is left, in the caller's transaction; how many rows, and 0 when nothing is left.

    Raises:
        KeyUnavailable: there is no master key, or not the one that is needed.
        sqlalchemy.exc.OperationalError: others hold what it needs; see `others_are_ahead`.
    """
    steps: tuple[Callable[[Session, int], int], ...] = (
        # First what is told as if it were keyed; it is soon done.
        _key_digests,
        _key_requests,
        _seal_texts,
        _seal_evidence,
    )
    _give_way(session)
    return next((done for step in steps if (done := step(session, limit))), 0)


def convert_all(database_url: str, keyring: Keyring) -> int:
    """Convert all that is left, each batch in a transaction of its own; how many rows.

    Raises:
        KeyUnavailable: there is no master key, or not the one that is needed.
        sqlalchemy.exc.OperationalError: the database is away, or others have held what it needs for a minute.
    """
    engine = sync_engine(database_url)
    sessions = sync_sessions(engine, with_keyring(keyring))
    converted = 0
    try:
        while done := _convert_batch(sessions):
            converted += done
    finally:
        engine.dispose()
    return converted


def _convert_batch(sessions: sessionmaker[Session]) -> int:
    """Convert some, once those who are ahead let go of it."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with sessions.begin() as session:
                return convert_some(session)
        except OperationalError as error:
            if not others_are_ahead(error) or time.monotonic() > until:
                raise
        time.sleep(_PAUSE_SECONDS)


def _give_way(session: Session) -> None:
    """Wait for no lock so long that the database would look for a deadlock, and end what others do in one."""
    session.execute(select(func.set_config("lock_timeout", str(_LOCK_MILLISECONDS), True)))  # noqa: FBT003


def _taken(statement: Select[Any], limit: int) -> Select[Any]:
    """Rows that no other process converts just now."""
    return statement.limit(limit).with_for_update(skip_locked=True)


def _held_text_sets(session: Session, has_rows: Exists) -> Sequence[UUID]:
    """Some text sets, held before what is theirs as by an erasure. One that is being erased is left out."""
    statement = select(TextSet.id).where(has_rows).order_by(TextSet.id).limit(_TEXT_SETS_AT_ONCE)
    return session.scalars(statement.with_for_update(read=True, key_share=True, skip_locked=True)).all()


def _seal_texts(session: Session, limit: int) -> int:
    unsealed = TextRow.sealed_text.is_(None)
    held = _held_text_sets(session, exists().where(TextRow.text_set_id == TextSet.id, unsealed))
    sealers = {text_set_id: ensure_text_set_sealer(session, text_set_id) for text_set_id in held}
    statement = select(TextRow).where(TextRow.text_set_id.in_(held), unsealed)
    statement = _taken(statement.order_by(TextRow.text_set_id, TextRow.ordinal), limit)
    rows = session.scalars(statement).all()
    for row in rows:
        for column, box in sealed_columns(sealers[row.text_set_id], clear_text(row, None)).items():
            setattr(row, column, box)
        row.unsealed_text = row.unsealed_choices = row.unsealed_metadata = None
    return len(rows)


def _seal_evidence(session: Session, limit: int) -> int:
    unsealed = TokenEvidence.sealed.is_(None)
    of_text_set = and_(Audit.text_set_id == TextSet.id, TokenEvidence.audit_id == Audit.id)
    held = _held_text_sets(session, exists().where(of_text_set, unsealed))
    sealers = {text_set_id: ensure_text_set_sealer(session, text_set_id) for text_set_id in held}
    audits = select(Audit.id).where(Audit.text_set_id.in_(held))
    statement = select(TokenEvidence).where(TokenEvidence.audit_id.in_(audits), unsealed)
    statement = _taken(statement.order_by(TokenEvidence.audit_id, TokenEvidence.ordinal), limit)
    rows = session.scalars(statement).all()
    found = select(Audit.id, Audit.text_set_id).where(Audit.id.in_({row.audit_id for row in rows}))
    text_sets = {each.id: each.text_set_id for each in session.execute(found)}
    for row in rows:
        seal_row(row, sealers[text_sets[row.audit_id]].of_audit(row.audit_id))
    return len(rows)


def _key_requests(session: Session, limit: int) -> int:
    """What is kept of idempotent requests, and digests of texts in the answers to them."""
    statement = _taken(
        select(IdempotencyKey).where(not_(IdempotencyKey.fingerprint.startswith(KEYED_MARK))), limit
    )
    rows = session.scalars(statement).all()
    for row in rows:
        row.fingerprint = keyed_fingerprint(session, row.fingerprint)
        row.response = without_digests(row.response)
    return len(rows)


def _key_digests(session: Session, _limit: int) -> int:
    """The digest of one text set, wherever it was written down."""
    statement = select(TextSet).where(TextSet.digest_is_keyed.is_(None)).order_by(TextSet.id).limit(1)
    row = session.scalars(statement.with_for_update(key_share=True, skip_locked=True)).one_or_none()
    if row is None:
        return 0
    key_digest(session, row)
    return 1
