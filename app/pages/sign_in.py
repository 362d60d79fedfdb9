"""Signing in with an API key, and out again. The key itself is sent once and never kept."""

from datetime import timedelta
from typing import Annotated, Final

from fastapi import Form, Request, Response

from app.http.dependencies import StoreDependency
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
from app.store.api_keys import find_principal
from app.store.page_sessions import begin_session, end_session

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
    key: Annotated[str, Form(max_length=_MOST_KEY_CHARS)] = "",
    next: Annotated[str | None, Form()] = None,  # noqa: A002 - its usual name
) -> Response:
    """Begin a session of a key."""
    principal = await store.run(find_principal, key.strip())
    if principal is None:
        return render(request, "sign_in.html", status=401, next=local_path(next), refused=True)
    if former := request.cookies.get(COOKIE):
        await store.run(end_session, former)
    token = await store.run(begin_session, principal, timedelta(seconds=LIFETIME_SECONDS))
    response = redirect(local_path(next))
    keep_session(request, response, token)
    return response


@router.post("/sign-out", dependencies=[FromOurPages])
async def sign_out(request: Request, store: StoreDependency) -> Response:
    """End the session."""
    if token := request.cookies.get(COOKIE):
        await store.run(end_session, token)
    response = redirect("/sign-in")
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response
