"""Requests name one host, as RFC 9112 (section 3.2) asks.

Which host is not checked: this service builds no address from it. One that is malformed or doubled could be
read in two ways, by a proxy and by what compares it with the origin of a form.
"""

import re
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import BadRequest
from app.http.problems import answer_problem

# A name, an IPv4 or an IPv6 address, and perhaps a port.
_HOST: Final = re.compile(rb"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class OneHost:
    """ASGI middleware: refuses a request without a host, with several, or with one that is none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and not _names_one_host(scope):
            error = BadRequest("The request has to name one host in its Host header.")
            await answer_problem(Request(scope), error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _names_one_host(scope: Scope) -> bool:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if not hosts:
        return bool(scope["http_version"] == "1.0")
    return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None
