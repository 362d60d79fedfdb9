"""How many tokens texts have under a language model, as far as audits that succeeded have counted them."""

from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from app.store.audits import Audit
from app.store.operations import OperationStatus
from app.store.text_sets import TextSet

# The newest audits say what a tokenizer makes of texts of the tenant's kind.
_AUDITS_LOOKED_AT: Final = 20
_TOKENS: Final = Audit.summary["tokens"].astext.cast(BigInteger)


def tokens_counted(
    session: Session, tenant_id: UUID, language_model_digest: str, texts_digest: str
) -> int | None:
    """The tokens of a set of texts; None if none of the tenant's audits has counted them."""
    statement = (
        select(_TOKENS)
        .where(_has_counted(tenant_id, language_model_digest), Audit.text_set_hmac_sha256 == texts_digest)
        .order_by(Audit.id.desc())
        .limit(1)
    )
    return session.scalar(statement)


def tokens_per_byte(session: Session, tenant_id: UUID, language_model_digest: str) -> float | None:
    """Tokens in a byte of UTF-8 over the tenant's newest audits; None if it has none."""
    newest = (
        select(_TOKENS.label("tokens"), TextSet.byte_count)
        .join(TextSet, TextSet.id == Audit.text_set_id)
        .where(_has_counted(tenant_id, language_model_digest))
        .order_by(Audit.id.desc())
        .limit(_AUDITS_LOOKED_AT)
        .subquery()
    )
    tokens, size = session.execute(select(func.sum(newest.c.tokens), func.sum(newest.c.byte_count))).one()
    return float(tokens) / float(size) if size else None


def _has_counted(tenant_id: UUID, language_model_digest: str) -> ColumnElement[bool]:
    return and_(
        Audit.tenant_id == tenant_id,
        Audit.language_model_digest == language_model_digest,
        Audit.status == OperationStatus.SUCCEEDED,
        Audit.summary.is_not(None),
    )
