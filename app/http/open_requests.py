"""Requests that go on for a while, ended when who asks may not ask any more.

A request is let in once. An event stream, a long poll or an export then lasts, and must not outlive its key.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from fastapi import Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Unauthorized
from app.http.principals import REMEMBERED_SECONDS, Credential, Principals
from app.http.problems import answer_failure

LOOK_SECONDS: Final = 1.0
# What writes is let to its end: it was accepted while the key was good, and stops half way nowhere.
_ENDED_METHODS: Final = frozenset({"GET", "HEAD"})
_STATE: Final = "open_request"


@dataclass(eq=False)
class OpenRequest:
    """A request under way: by which credential, in which task, since when, and whether it was ended."""

    credential: Credential
    task: asyncio.Task[object]
    since: float = field(default_factory=time.monotonic)
    was_ended: bool = False

    def end(self) -> None:
        """Let it go no further."""
        self.was_ended = True
        self.task.cancel()


class OpenRequests:
    """The requests of this process that may last."""

    def __init__(self) -> None:
        self._open: set[OpenRequest] = set()

    def enter(self, request: Request, credential: Credential) -> None:
        """Note a request that was let in."""
        if request.method in _ENDED_METHODS:
            task = asyncio.current_task()
            assert task is not None
            opened = OpenRequest(credential, task)
            self._open.add(opened)
            request.scope["state"][_STATE] = opened

    def leave(self, opened: OpenRequest) -> None:
        """Forget a request that has been answered."""
        self._open.discard(opened)

    async def end_revoked_forever(self, principals: Principals) -> None:
        """Until cancelled: end requests whose credential is no good any more."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            # While the database is away nobody can tell; what it says afterwards counts.
            with suppress(SQLAlchemyError, OSError):
                await self._end_revoked(principals)

    async def _end_revoked(self, principals: Principals) -> None:
        before = time.monotonic() - REMEMBERED_SECONDS
        for credential in {each.credential for each in self._open if each.since < before}:
            if await principals.find(credential) is None:
                for each in [each for each in self._open if each.credential == credential]:
                    each.end()


class RevocationGuard:
    """ASGI middleware: answers a request that was ended with a problem, or breaks its answer off."""

    def __init__(self, app: ASGIApp, open_requests: OpenRequests) -> None:
        self._app = app
        self._open_requests = open_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except asyncio.CancelledError:
            opened = _opened(scope)
            if opened is None or not opened.was_ended:
                raise
            opened.task.uncancel()
            # An answer that has begun is left without its end, so that none takes it for whole.
            if not started:
                ended = Unauthorized("The API key or session ended while the request was under way.")
                response = await answer_failure(Request(scope), ended)
                await response(scope, receive, send)
        finally:
            if (opened := _opened(scope)) is not None:
                self._open_requests.leave(opened)


def _opened(scope: Scope) -> OpenRequest | None:
    opened: OpenRequest | None = scope.get("state", {}).get(_STATE)
    return opened
