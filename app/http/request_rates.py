"""How often a tenant may ask, and what each answer says of it.

Each API process counts by itself, in its memory: so a limit costs no request a round trip, and nothing that
is away (Redis may be, and may forget) opens or closes the door. With several processes a tenant may ask each
of them as often. The headers are those of draft-ietf-httpapi-ratelimit-headers-09.
"""

from math import ceil, floor
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import RateLimited
from app.http.buckets import MINUTE, Buckets
from app.store.tenants import Principal

_MOST_TENANTS: Final = 100_000
_POLICY: Final = "requests"
_STATE: Final = "rate_limit"

Headers = list[tuple[bytes, bytes]]


class RequestRates:
    """The requests of this process by tenant."""

    def __init__(self) -> None:
        self._buckets = Buckets(_MOST_TENANTS)

    def take(self, request: Request, principal: Principal) -> None:
        """Count a request, and note for its answer what is left.

        Raises:
            RateLimited: the tenant sent too many.
        """
        a_minute = principal.quotas.requests_per_minute
        if a_minute is None:
            return
        name = str(principal.tenant_id)
        wait = self._buckets.seconds_to_wait(name, a_minute)
        if not wait:
            self._buckets.add(name, a_minute)
        level = self._buckets.level(name, a_minute)
        left = 0 if wait else floor(a_minute - level)
        whole_again = ceil(level * MINUTE / a_minute)
        request.scope["state"][_STATE] = [
            (b"ratelimit-policy", f'"{_POLICY}";q={a_minute};w={MINUTE:.0f}'.encode()),
            (b"ratelimit", f'"{_POLICY}";r={left};t={whole_again}'.encode()),
        ]
        if wait:
            raise RateLimited(a_minute, ceil(wait))


class RateHeaders:
    """ASGI middleware: adds to each answer what was noted for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                noted: Headers = scope.get("state", {}).get(_STATE, [])
                message["headers"] = [*message.get("headers", []), *noted]
            await send(message)

        await self._app(scope, receive, send_with_headers)
