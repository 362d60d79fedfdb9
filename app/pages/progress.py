"""The part of a page that tells how far work has come, and asks again until it has ended."""

from fastapi import Request
from fastapi.responses import HTMLResponse

from app.http.long_running import Answer, has_ended
from app.pages.page_route import RELOAD
from app.pages.rendering import render


def render_progress(request: Request, work: Answer, address: str) -> HTMLResponse:
    """How far work has come, as `address` tells it. When it has ended, the page around it is loaded anew."""
    response = render(request, "progress.html", work=work, address=address)
    if has_ended(work):
        response.headers.update(RELOAD)
    return response
