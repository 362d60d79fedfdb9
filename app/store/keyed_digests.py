"""Digests of text sets under the keys of their tenants. Those of older releases are the SHA-256 itself."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import and_, delete, select, update
from sqlalchemy.orm import Session

from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id
from app.store.data_keys import keyed_digest
from app.store.edits import Edit, EditTextSet
from app.store.factors import StoredFactor
from app.store.gates import Gate
from app.store.studies import Study
from app.store.text_sets import TextSet


def digest_of(session: Session, row: TextSet) -> str:
    """The keyed digest of a text set for what is written now, be the row itself converted or not.

    Returns:
        64 hexadecimal digits; nothing while the set has no texts.

    Raises:
        KeyUnavailable: the key of the instance cannot be opened.
    """
    if row.digest_is_keyed or not row.hmac_sha256:
        return row.hmac_sha256
    return keyed_digest(session, row.tenant_id, row.hmac_sha256)


def unkeyed_digests(session: Session, text_set_ids: Collection[UUID]) -> frozenset[str]:
    """The digests of some text sets that are not keyed yet, of which nothing is told, wherever they stand."""
    statement = select(TextSet.hmac_sha256).where(
        TextSet.id.in_(text_set_ids), TextSet.digest_is_keyed.is_(None)
    )
    return frozenset(session.scalars(statement))


def key_digest(session: Session, row: TextSet) -> None:
    """Replace the digest of a text set that an older release made, wherever it was written down.

    The caller holds the row. Unfinished work may go on: what it writes from now on is keyed already.

    Raises:
        KeyUnavailable: the key of the instance cannot be opened.
    """
    if row.digest_is_keyed:
        return
    plain, keyed = row.hmac_sha256, digest_of(session, row)
    row.hmac_sha256, row.digest_is_keyed = keyed, True
    if plain:
        _replace(session, row, plain, keyed)
    session.flush()


def _replace(session: Session, row: TextSet, plain: str, keyed: str) -> None:
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
