"""Routes that read their JSON strictly: UTF-8 only, no NaN or Infinity, no lone surrogates."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute


class StrictJSONRequest(Request):
    """A request whose body is parsed by orjson."""

    async def json(self) -> Any:
        """The parsed body.

        Raises:
            orjson.JSONDecodeError: it is not strict JSON.
        """
        return orjson.loads(await self.body())


class StrictJSONRoute(APIRoute):
    """A route that hands its handler a strict request."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, on a strict request."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(StrictJSONRequest(request.scope, request.receive))

        return handle_strictly
