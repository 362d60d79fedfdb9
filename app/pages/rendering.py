"""Templates become answers here, with the headers that every page has."""

from functools import partial
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app import __version__
from app.http.dependencies import has_scope
from app.pages.assets import asset_path
from app.pages.figures import FILTERS
from app.store.tenants import Principal

# Nothing from or to anywhere else, and no script or style within a page.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PAGE_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Nothing to other hosts. `no-referrer` would make browsers hide the origin of our own forms from us.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Pages show submitted texts: no cache may keep them.
    "Cache-Control": "no-store",
}

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= FILTERS
_environment.globals |= {"asset": asset_path, "version": __version__}


def may(principal: Principal | None, scope: str) -> bool:
    """Whether a visitor's key has a scope."""
    return principal is not None and has_scope(principal, scope)


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """An answer made of a template, which also knows who is visiting and what their key may do."""
    principal: Principal | None = getattr(request.state, "principal", None)
    content = _environment.get_template(template).render(
        principal=principal, may=partial(may, principal), path=request.url.path, **context
    )
    return HTMLResponse(content, status_code=status, headers=PAGE_HEADERS)
