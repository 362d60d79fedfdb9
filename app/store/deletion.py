"""Deletion across aggregates: nothing that unfinished work still needs can be deleted."""

from uuid import UUID

from sqlalchemy import CursorResult, Exists, SQLColumnExpression, and_, delete, exists, func, select, update
from sqlalchemy.orm import Session

from app import __version__
from app.errors import NotFound, ResourceInUse
from app.signing.erasure import Reason, sign_erasure, state_erasure
from app.signing.keys import SigningKeys
from app.store.audits import Audit
from app.store.companions import is_needed_by_an_owner
from app.store.core.identifiers import Prefix, format_id
from app.store.data_keys import erase_text_set_key
from app.store.edits import Edit, EditTextSet
from app.store.erasure_receipts import ErasureReceipt
from app.store.events import record_removal
from app.store.jobs.owners import LANGUAGE_MODEL, TEXT_SET
from app.store.keyed_digests import key_digest
from app.store.language_models import LanguageModel, get_language_model
from app.store.lifecycle import end
from app.store.operations import is_active
from app.store.text_sets import TextSet, TextSetStatus, get_text_set
from app.store.texts import TextRow
from app.store.token_evidence import TokenEvidence


def delete_language_model(session: Session, tenant_id: UUID, model_id: UUID | None) -> None:
    """Forget a language model. Audits already made with it stay readable.

    Raises:
        NotFound: no such language model for this tenant.
        ResourceInUse: an unfinished audit or edit still needs it.
    """
    row = get_language_model(session, tenant_id, model_id)
    session.execute(select(LanguageModel.id).where(LanguageModel.id == row.id).with_for_update())
    _require_unused(session, exists().where(Audit.language_model_id == row.id, is_active(Audit)))
    _require_unused(session, exists().where(Edit.uses_language_model(row.id), is_active(Edit)))
    row.deleted_at = session.scalar(select(func.now()))
    session.flush()
    record_removal(session, LANGUAGE_MODEL, row, "deleted")


def erase_text_set(
    session: Session,
    tenant_id: UUID,
    text_set_id: UUID | None,
    keys: SigningKeys | None,
    reason: Reason = "deleted",
) -> tuple[TextSet, ErasureReceipt]:
    """Erase the texts, the token evidence that they could be read from, and the key of both.

    Scores, which hold no text, stay. The row of the set stays, and a receipt, signed if there are keys.
    An import under way ends.

    Raises:
        NotFound: no such text set for this tenant, or it was erased before.
        ResourceInUse: an unfinished audit or edit still needs it.
    """
    row = get_text_set(session, tenant_id, text_set_id)
    session.execute(select(TextSet.id).where(TextSet.id == row.id).with_for_update())
    for use in uses_of_text_set(row.id):
        _require_unused(session, use)
    audits = select(Audit.id).where(Audit.text_set_id == row.id)
    evidence = session.execute(delete(TokenEvidence).where(TokenEvidence.audit_id.in_(audits)))
    session.execute(delete(TextRow).where(TextRow.text_set_id == row.id))
    erase_text_set_key(session, row.id)
    end(session, TEXT_SET, row.id, TextSetStatus.CANCELLED)
    record_removal(session, TEXT_SET, row, "erased")
    statement = update(TextSet).where(TextSet.id == row.id).values(deleted_at=func.now()).returning(TextSet)
    erased = session.scalars(statement).one()
    assert isinstance(evidence, CursorResult)
    return erased, add_receipt(session, erased, keys, evidence_rows=evidence.rowcount, reason=reason)


def uses_of_text_set(text_set_id: UUID | SQLColumnExpression[UUID]) -> tuple[Exists, ...]:
    """The conditions, of which each says that unfinished work needs a text set."""
    used_by = and_(EditTextSet.edit_id == Edit.id, EditTextSet.text_set_id == text_set_id)
    return (
        exists().where(Audit.text_set_id == text_set_id, is_active(Audit)),
        is_needed_by_an_owner(text_set_id),
        exists().where(used_by, is_active(Edit)),
    )


def add_receipt(
    session: Session,
    row: TextSet,
    keys: SigningKeys | None,
    *,
    evidence_rows: int | None = None,
    reason: Reason | None = None,
) -> ErasureReceipt:
    """Write down that the texts of a set were erased, signed if there are keys. The caller holds its row.

    The digest is keyed first if an older release made it: a receipt stays, and guesses at the texts could be
    tried against it.

    Raises:
        KeyUnavailable: it cannot be keyed.
    """
    assert row.deleted_at is not None
    key_digest(session, row)
    statement = state_erasure(
        text_set=format_id(Prefix.TEXT_SET, row.id),
        hmac_sha256=row.keyed_digest,
        text_count=row.text_count,
        byte_count=row.byte_count,
        evidence_rows=evidence_rows,
        reason=reason,
        erased_at=row.deleted_at,
        software=f"memaudit {__version__}",
    )
    envelope = None if keys is None else sign_erasure(statement, keys)
    receipt = ErasureReceipt(
        text_set_id=row.id, tenant_id=row.tenant_id, statement=statement, envelope=envelope
    )
    session.add(receipt)
    session.flush()
    return receipt


def get_receipt(
    session: Session, tenant_id: UUID, text_set_id: UUID | None, keys: SigningKeys | None
) -> ErasureReceipt:
    """The receipt of a text set that was erased; it is signed now if it could not be then.

    Raises:
        NotFound: no such text set for this tenant, or it has not been erased.
    """
    statement = (
        select(TextSet)
        .where(TextSet.id == text_set_id, TextSet.tenant_id == tenant_id, TextSet.deleted_at.is_not(None))
        .with_for_update()
    )
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise NotFound("There is no such text set, or it has not been erased.")
    receipt = session.get(ErasureReceipt, row.id)
    if receipt is None:
        return add_receipt(session, row, keys)
    if receipt.envelope is None and keys is not None:
        receipt.envelope = sign_erasure(receipt.statement, keys)
    return receipt


def _require_unused(session: Session, use: Exists) -> None:
    if session.scalar(select(use)):
        raise ResourceInUse("Unfinished work needs this resource; cancel it first.")
