"""One try: a POST over a connection to an address that was checked, whose answer is only counted."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx

from app.webhooks.destinations import Address, Destinations, NoAllowedAddress, Target, URLRefused

_CONNECT_SECONDS: Final = 5.0
_MOST_ANSWER_BYTES: Final = 64 * 1024
_ASKS_TO_WAIT: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a try.

    Attributes:
        status: of the answer; None if there was none.
        error: a code for what went wrong; None if the receiver took it.
        retry_after: seconds that the receiver asks to be left in peace for.
    """

    status: int | None = None
    error: str | None = None
    retry_after: float | None = None


def trusted(authorities: Path | None) -> ssl.SSLContext:
    """How receivers prove who they are: to the system's authorities, and to those of a file."""
    context = ssl.create_default_context()
    if authorities is not None:
        context.load_verify_locations(authorities)
    return context


class Poster:
    """Sends to receivers.

    Args:
        destinations: what may be sent to.
        context: whom to believe.
        timeout: seconds for a whole try, from the lookup to the last byte.
    """

    def __init__(self, destinations: Destinations, context: ssl.SSLContext, timeout: float) -> None:
        self._destinations = destinations
        self._context = context
        self._timeout = timeout

    async def post(self, url: str, headers: Mapping[str, str], body: str) -> Answer:
        """Send once. Nothing that goes wrong is raised."""
        try:
            async with asyncio.timeout(self._timeout):
                target = self._destinations.read(url)
                return await self._to_one_of(
                    await self._destinations.addresses(target), target, headers, body
                )
        except (URLRefused, NoAllowedAddress):
            return Answer(error="no_allowed_address")
        except (TimeoutError, httpx.TimeoutException):
            return Answer(error="timed_out")
        except httpx.ConnectError as error:
            return Answer(error="tls_failed" if _is_tls(error) else "not_connected")
        except httpx.RequestError:
            return Answer(error="broken_off")

    async def _to_one_of(
        self, addresses: list[Address], target: Target, headers: Mapping[str, str], body: str
    ) -> Answer:
        """To the first address that can be connected to: up to then nothing was sent."""
        *first, last = addresses
        for address in first:
            try:
                return await self._to(address, target, headers, body)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._to(last, target, headers, body)

    async def _to(self, address: Address, target: Target, headers: Mapping[str, str], body: str) -> Answer:
        url = httpx.URL(scheme="https", host=str(address), port=target.port, raw_path=target.path)
        # A client for each: a connection that was opened for another name at this address must not be taken.
        async with (
            httpx.AsyncClient(
                verify=self._context,
                trust_env=False,
                timeout=httpx.Timeout(self._timeout, connect=min(_CONNECT_SECONDS, self._timeout)),
            ) as client,
            client.stream(
                "POST",
                url,
                headers={**headers, "Host": target.authority, "Connection": "close"},
                content=body.encode(),
                # The certificate is checked against the name and not against the address.
                extensions={"sni_hostname": target.host},
            ) as response,
        ):
            received = 0
            async for chunk in response.aiter_raw():
                received += len(chunk)
                if received > _MOST_ANSWER_BYTES:
                    break
        if response.is_success:
            return Answer(response.status_code)
        return Answer(response.status_code, "refused", _retry_after(response))


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that a receiver which is busy asks for, as a number or a date; None if it does not."""
    said = response.headers.get("retry-after", "")
    if response.status_code not in _ASKS_TO_WAIT or not said:
        return None
    try:
        if said.isascii() and said.isdigit():
            return float(said[:9])
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
