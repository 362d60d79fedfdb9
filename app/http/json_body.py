"""Routes that read their JSON strictly: UTF-8 only, no NaN or Infinity, no lone surrogates, no name twice.

What is read is bounded.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, Final

import orjson
from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from app.errors import UnsupportedMediaType

# What takes so long to check that it would hold up other requests: a tenth of a millisecond for each KiB.
_LARGE_BYTES: Final = 64 * 1024


async def bounded(chunks: AsyncGenerator[bytes, None], limit: int) -> AsyncIterator[bytes]:
    """The chunks of a body of at most `limit` bytes.

    Raises:
        HTTPException: 413, the body is larger (FastAPI would turn any other class into a 400).
    """
    received = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            received += len(chunk)
            if received > limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            yield chunk


def require_plain(request: Request) -> None:
    """Refuse a body that says it is compressed: what it unpacks to would know no bound.

    Raises:
        UnsupportedMediaType: it says so.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("Send the body as it is, without a Content-Encoding.")


def read_json(body: bytes) -> Any:
    """A strict JSON document.

    An object that has a name twice is refused: of two readers, as a filter before this service and this
    service, each may take another one of the two (RFC 8259, section 4).

    Raises:
        json.JSONDecodeError: it is not strict JSON.
    """
    document = orjson.loads(body)
    try:
        # Read once more only to see all names: orjson keeps the last of the same.
        json.loads(body, object_pairs_hook=_require_once, parse_int=len)
    except RecursionError:
        raise json.JSONDecodeError("nested too deep", "", 0) from None
    return document


def _require_once(members: list[tuple[str, object]]) -> None:
    if len(dict(members)) < len(members):
        raise json.JSONDecodeError("a name comes twice", "", 0)


class StrictJSONRequest(Request):
    """A request whose body is bounded and parsed strictly."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The chunks of the body, up to the settings' `max_request_bytes`."""
        async for chunk in bounded(super().stream(), self.app.state.settings.max_request_bytes):
            yield chunk

    async def json(self) -> Any:
        """The parsed body. FastAPI asks for it before anybody has looked at the key.

        Large ones are read in a thread, in their turn, beside those in which the routes' own work is done.

        Raises:
            json.JSONDecodeError: it is not strict JSON.
        """
        body = await self.body()
        if len(body) <= _LARGE_BYTES:
            return read_json(body)
        turns: CapacityLimiter = self.app.state.json_turns
        return await to_thread.run_sync(read_json, body, limiter=turns)


class StrictJSONRoute(APIRoute):
    """A route that hands its handler a strict request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, on a strict request."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            require_plain(request)
            return await handle(StrictJSONRequest(request.scope, request.receive))

        return handle_strictly
