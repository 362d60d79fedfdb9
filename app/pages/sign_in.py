"""Signing in with an API key, and out again. The key itself is sent once and never kept."""

from datetime import timedelta
from typing import Annotated, Final

from fastapi import Form, Request, Response
from sqlalchemy.orm import Session

from app.errors import Unauthorized
from app.http.dependencies import PrincipalsDependency, StoreDependency, admit
from app.http.principals import Credential, Kind
from app.pages.page_route import page_router, redirect
from app.pages.rendering import render
from app.pages.visitors import (
    COOKIE,
    LIFETIME_SECONDS,
    START,
    FromOurPages,
    keep_session,
    local_path,
)
from app.store.page_sessions import begin_session, end_session
from app.store.tenants import Principal
from app.store.trail import Action, record_request

_MOST_KEY_CHARS: Final = 500

router = page_router()


@router.get("/")
async def show_start() -> Response:
    """The first page."""
    return redirect(START)


@router.get("/sign-in")
async def show_sign_in(request: Request, next: str | None = None) -> Response:  # noqa: A002 - its usual name
    """A form for a key."""
    return render(request, "sign_in.html", next=local_path(next), refused=False)


@router.post("/sign-in", dependencies=[FromOurPages])
async def sign_in(
    request: Request,
    store: StoreDependency,
    principals: PrincipalsDependency,
    key: Annotated[str, Form(max_length=_MOST_KEY_CHARS)] = "",
    next: Annotated[str | None, Form()] = None,  # noqa: A002 - its usual name
) -> Response:
    """Begin a session of a key."""
    try:
        principal = await admit(request, Credential(Kind.API_KEY, key.strip()))
    except Unauthorized:
        return render(request, "sign_in.html", status=401, next=local_path(next), refused=True)
    if former := request.cookies.get(COOKIE):
        await store.run(end_session, former)
        principals.forget()
    token = await store.run(_begin, principal)
    response = redirect(local_path(next))
    keep_session(request, response, token)
    return response


def _begin(session: Session, principal: Principal) -> str:
    record_request(session, principal, Action.SIGNED_IN, principal.actor)
    return begin_session(session, principal, timedelta(seconds=LIFETIME_SECONDS))


@router.post("/sign-out", dependencies=[FromOurPages])
async def sign_out(request: Request, store: StoreDependency, principals: PrincipalsDependency) -> Response:
    """End the session."""
    if token := request.cookies.get(COOKIE):
        if principal := await principals.find(Credential(Kind.PAGE_SESSION, token)):
            await store.run(record_request, principal, Action.SIGNED_OUT, principal.actor)
        await store.run(end_session, token)
        principals.forget()
    response = redirect("/sign-in")
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response
