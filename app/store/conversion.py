"""Converting what older releases wrote: texts and evidence are sealed, digests are keyed.

It is done in batches beside everything else, can be broken off at any time and goes on where it stopped. Rows
are read in both forms, so that processes of an older release may still write while those of this one read.
"""

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, and_, delete, not_, or_, select, update
from sqlalchemy.orm import Session

from app.sealing.keyring import Keyring
from app.store.audits import Audit
from app.store.core.base import JSONObject
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.data_keys import (
    KEYED_MARK,
    ensure_text_set_sealer,
    keyed_digest,
    keyed_fingerprint,
    with_keyring,
)
from app.store.deletion import uses_of_text_set
from app.store.edits import Edit, EditTextSet
from app.store.factors import StoredFactor
from app.store.gates import Gate
from app.store.idempotency import IdempotencyKey
from app.store.studies import Study
from app.store.text_sets import TextSet
from app.store.texts import TextRow, clear_text, sealed_columns
from app.store.token_evidence import TokenEvidence, seal_row

ROWS_AT_ONCE: Final = 500


def convert_some(session: Session, limit: int = ROWS_AT_ONCE) -> int:
    """Convert some of what is left, in the caller's transaction; how many rows, and 0 when nothing is left.

    Raises:
        KeyUnavailable: there is no master key, or not the one that is needed.
    """
    steps: tuple[Callable[[Session, int], int], ...] = (
        _seal_texts,
        _seal_evidence,
        _key_requests,
        _key_digests,
    )
    return next((done for step in steps if (done := step(session, limit))), 0)


def convert_all(database_url: str, keyring: Keyring) -> int:
    """Convert all that is left, each batch in a transaction of its own; how many rows.

    Raises:
        KeyUnavailable: there is no master key, or not the one that is needed.
    """
    engine = sync_engine(database_url)
    sessions = sync_sessions(engine, with_keyring(keyring))
    converted = 0
    try:
        while True:
            with sessions.begin() as session:
                done = convert_some(session)
            if not done:
                return converted
            converted += done
    finally:
        engine.dispose()


def _taken(statement: Select[Any], limit: int) -> Select[Any]:
    """Rows that no other process converts just now."""
    return statement.limit(limit).with_for_update(skip_locked=True)


def _seal_texts(session: Session, limit: int) -> int:
    statement = select(TextRow).where(TextRow.sealed_text.is_(None))
    statement = _taken(statement.order_by(TextRow.text_set_id, TextRow.ordinal), limit)
    rows = session.scalars(statement).all()
    sealers = {set_id: ensure_text_set_sealer(session, set_id) for set_id in {r.text_set_id for r in rows}}
    for row in rows:
        for column, box in sealed_columns(sealers[row.text_set_id], clear_text(row, None)).items():
            setattr(row, column, box)
        row.unsealed_text = row.unsealed_choices = row.unsealed_metadata = None
    return len(rows)


def _seal_evidence(session: Session, limit: int) -> int:
    statement = select(TokenEvidence).where(TokenEvidence.sealed.is_(None))
    statement = _taken(statement.order_by(TokenEvidence.audit_id, TokenEvidence.ordinal), limit)
    rows = session.scalars(statement).all()
    sets = select(Audit.id, Audit.text_set_id).where(Audit.id.in_({row.audit_id for row in rows}))
    sealers = {
        audit_id: ensure_text_set_sealer(session, text_set_id).of_audit(audit_id)
        for audit_id, text_set_id in session.execute(sets)
    }
    for row in rows:
        seal_row(row, sealers[row.audit_id])
    return len(rows)


def _key_requests(session: Session, limit: int) -> int:
    """What is kept of idempotent requests, and digests of texts in the answers to them."""
    statement = _taken(
        select(IdempotencyKey).where(not_(IdempotencyKey.fingerprint.startswith(KEYED_MARK))), limit
    )
    rows = session.scalars(statement).all()
    for row in rows:
        row.fingerprint = keyed_fingerprint(session, row.fingerprint)
        row.response = _without_digests(row.response)
    return len(rows)


def _without_digests(answer: JSONObject) -> JSONObject:
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


def _key_digests(session: Session, _limit: int) -> int:
    """The digest of one text set that nothing unfinished uses, wherever it was written down."""
    used = or_(*uses_of_text_set(TextSet.id))
    statement = select(TextSet).where(TextSet.digest_is_keyed.is_(None), not_(used)).order_by(TextSet.id)
    row = session.scalars(_taken(statement, 1)).one_or_none()
    if row is None:
        return 0
    if plain := row.hmac_sha256:
        _replace_digest(session, row, plain, keyed_digest(session, row.tenant_id, plain))
    row.digest_is_keyed = True
    return 1


def _replace_digest(session: Session, row: TextSet, plain: str, keyed: str) -> None:
    row.hmac_sha256 = keyed
    for table in (Audit, Study):
        changed = update(table).where(table.text_set_id == row.id, table.text_set_hmac_sha256 == plain)
        session.execute(changed.values(text_set_hmac_sha256=keyed))
    of_tenant = and_(Gate.tenant_id == row.tenant_id, Gate.text_set_hmac_sha256 == plain)
    session.execute(update(Gate).where(of_tenant).values(text_set_hmac_sha256=keyed))
    used = update(EditTextSet).where(EditTextSet.text_set_id == row.id, EditTextSet.hmac_sha256 == plain)
    session.execute(used.values(hmac_sha256=keyed))
    _replace_in_receipts(session, row.id, keyed)
    # Their names are made from digests of texts. They can be made again.
    session.execute(delete(StoredFactor).where(StoredFactor.tenant_id == row.tenant_id))


def _replace_in_receipts(session: Session, text_set_id: UUID, keyed: str) -> None:
    edits = select(EditTextSet.edit_id).where(EditTextSet.text_set_id == text_set_id)
    public_id = format_id(Prefix.TEXT_SET, text_set_id)
    for edit in session.scalars(select(Edit).where(Edit.id.in_(edits), Edit.receipt.is_not(None))):
        assert edit.receipt is not None
        text_sets = {
            role: {"id": public_id, "hmac_sha256": keyed} if used["id"] == public_id else used
            for role, used in edit.receipt["text_sets"].items()
        }
        edit.receipt = edit.receipt | {"text_sets": text_sets}
