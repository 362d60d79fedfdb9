"""Language models and text sets: what there is to audit."""

from typing import Final

from fastapi import Request, Response
from sqlalchemy.orm import Session

from app.http.dependencies import PageCursor, StoreDependency
from app.http.pagination import Page
from app.language_models.schemas import LanguageModelOut
from app.language_models.service import list_page as list_language_models
from app.pages.names import Names, find_names
from app.pages.page_route import page_router
from app.pages.rendering import render
from app.pages.visitors import AuditVisitor
from app.store.tenants import Principal
from app.store.text_sets import TextSetFilter
from app.text_sets.service import list_page as list_text_sets

_A_PAGE: Final = 50

router = page_router()


@router.get("/models")
async def show_language_models(
    request: Request, principal: AuditVisitor, store: StoreDependency, cursor: PageCursor = None
) -> Response:
    """Language models, newest first."""
    page, names = await store.run(_read_language_models, principal, cursor)
    return render(request, "models.html", page=page, names=names, first=cursor is None)


@router.get("/text-sets")
async def show_text_sets(
    request: Request, principal: AuditVisitor, store: StoreDependency, cursor: PageCursor = None
) -> Response:
    """Text sets, newest first."""
    page = await store.run(list_text_sets, principal.tenant_id, TextSetFilter(), _A_PAGE, cursor)
    return render(request, "text_sets.html", page=page, first=cursor is None)


def _read_language_models(
    session: Session, principal: Principal, cursor: str | None
) -> tuple[Page[LanguageModelOut], Names]:
    page = list_language_models(
        session, principal, _A_PAGE, cursor, status=None, base_model=None, model_repo=None, metadata={}
    )
    ids = [public_id for each in page.data for public_id in (each.id, each.base_model)]
    return page, find_names(session, principal.tenant_id, ids)
