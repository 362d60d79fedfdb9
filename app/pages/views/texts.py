"""One text of an audit: its numbers, and the heat of its tokens."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request, Response
from sqlalchemy.orm import Session

from app.audits.schemas import AuditOut
from app.audits.score_schemas import ScoreOut
from app.audits.scores import read_score, read_tokens
from app.audits.service import read_audit
from app.audits.tokens import TextTokens
from app.contracts.texts import TextId
from app.errors import NotFound
from app.http.dependencies import StoreDependency, read_id
from app.pages.heat import MOST_TOKENS, legend, parts_of
from app.pages.names import Names, find_names
from app.pages.page_route import page_router
from app.pages.rendering import render
from app.pages.visitors import AuditVisitor
from app.store.core.identifiers import Prefix
from app.store.tenants import Principal

router = page_router()


@dataclass(frozen=True)
class TextView:
    """A text with its numbers, and its tokens if they were kept."""

    audit: AuditOut
    names: Names
    score: ScoreOut
    tokens: TextTokens | None


@router.get("/audits/{audit_id}/text")
async def show_text(
    request: Request,
    audit_id: str,
    text_id: Annotated[TextId, Query(alias="id")],
    principal: AuditVisitor,
    store: StoreDependency,
    start: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Response:
    """A text of an audit."""
    view = await store.run(read_text, principal, read_id(Prefix.AUDIT, audit_id), text_id)
    return render(request, "text.html", **heat_context(view, start))


def heat_context(view: TextView, start: int = 0) -> dict[str, Any]:
    """What the templates of a text need."""
    tokens, parts, total = view.tokens, None, 0
    if tokens is not None:
        total = len(tokens)
        parts = parts_of(tokens.between(start, start + MOST_TOKENS), view.score, start, total)
    return {
        "view": view,
        "audit": view.audit,
        "score": view.score,
        "parts": parts,
        "legend": legend(),
        "start": start,
        "following": start + MOST_TOKENS if start + MOST_TOKENS < total else None,
        "total": total,
    }


def read_text(session: Session, principal: Principal, audit_id: UUID, text_id: str) -> TextView:
    """A text of a succeeded audit. Its tokens are None where no evidence was kept or the texts were erased.

    Raises:
        NotFound: no such audit or text for this tenant.
        AuditNotSucceeded: the audit has not ended, or ended otherwise.
    """
    audit = read_audit(session, principal.tenant_id, audit_id)
    score = read_score(session, principal.tenant_id, audit_id, text_id)
    try:
        tokens = read_tokens(session, principal, audit_id, text_id)
    except NotFound:
        tokens = None
    names = find_names(session, principal.tenant_id, [audit.model, audit.text_set])
    return TextView(audit, names, score, tokens)
