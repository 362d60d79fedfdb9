"""Who is visiting the pages: the cookie of a session, which is good for what its API key is good for."""

from typing import Annotated, Final
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request, Response

from app.errors import CrossSiteRequest, Unauthorized
from app.http.dependencies import admit, require_scope
from app.http.principals import Credential, Kind
from app.store.tenants import Principal

COOKIE: Final = "memaudit_session"
LIFETIME_SECONDS: Final = 12 * 3600
START: Final = "/audits"
_SIGN_IN: Final = "/sign-in"


async def _visitor(request: Request) -> Principal:
    token = request.cookies.get(COOKIE)
    if not token:
        raise Unauthorized("Sign in first.")
    principal = await admit(request, Credential(Kind.PAGE_SESSION, token))
    request.state.principal = principal
    return principal


class VisitorWithScope:
    """A dependency that lets a visitor through whose key has a scope (or `admin`)."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    async def __call__(self, principal: Annotated[Principal, Depends(_visitor)]) -> Principal:
        """Who is visiting, if the key has the scope."""
        require_scope(principal, self._scope)
        return principal


Visitor = Annotated[Principal, Depends(_visitor)]
AuditVisitor = Annotated[Principal, Depends(VisitorWithScope("audit:read"))]
AuditingVisitor = Annotated[Principal, Depends(VisitorWithScope("audit:write"))]
EditVisitor = Annotated[Principal, Depends(VisitorWithScope("edit:read"))]


async def require_same_site(request: Request) -> None:
    """Refuse what a page of another site sends, whatever cookies came along.

    Raises:
        CrossSiteRequest: the browser says so, or says nothing of where the request comes from.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site != "same-origin":
            raise CrossSiteRequest
        return
    # Browsers name the site to secure addresses only; the origin to all.
    origin = request.headers.get("origin")
    if origin is None or urlsplit(origin).netloc != request.headers.get("host"):
        raise CrossSiteRequest


FromOurPages = Depends(require_same_site)


def keep_session(request: Request, response: Response, token: str) -> None:
    """Give a browser the cookie of a session that has begun."""
    response.set_cookie(
        COOKIE,
        token,
        max_age=LIFETIME_SECONDS,
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def local_path(wanted: str | None) -> str:
    """Where to go after signing in: a path of this service, or the first page in place of anything else."""
    if wanted is None or not wanted.startswith("/") or wanted.startswith("//"):
        return START
    # Browsers read a backslash as a slash and skip tabs and line breaks.
    if "\\" in wanted or any(character < " " for character in wanted):
        return START
    return wanted


def sign_in_path(request: Request) -> str:
    """The page to sign in on, which leads back to where the visitor is."""
    here = request.url.path
    if request.method == "GET" and request.url.query:
        here = f"{here}?{request.url.query}"
    return f"{_SIGN_IN}?next={quote(here, safe='')}"
