"""Serving the pages beside the API."""

from http import HTTPStatus

from fastapi import FastAPI

from app.pages import assets, sign_in
from app.pages.page_route import answer_not_found
from app.pages.views import audits, catalogue, downloads, edits, gates, plots, studies, texts, trying

_ROUTERS = (
    sign_in.router,
    assets.router,
    *(view.router for view in (audits, texts, studies, edits, gates, trying, catalogue, plots, downloads)),
)


def install_pages(app: FastAPI) -> None:
    """Serve the pages at `/`. They come after the API's own routes, so that none of these changes."""
    for router in _ROUTERS:
        app.include_router(router)
    app.add_exception_handler(HTTPStatus.NOT_FOUND, answer_not_found)
