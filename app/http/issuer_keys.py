"""The keys of an issuer of tokens, asked for seldom and kept for a while."""

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any, Final

import httpx
import jwt
import structlog
from pydantic import BaseModel

log = structlog.get_logger()

# When keys are asked for anew; how often at most, whatever tokens come; how long they are good without news.
_FRESH_SECONDS: Final = 600.0
PAUSE_SECONDS: Final = 10.0
_GOOD_SECONDS: Final = 3600.0
_MOST_BYTES: Final = 512 * 1024
_TIMEOUT_SECONDS: Final = 5.0


class _KeySet(BaseModel):
    """What is read of a key set."""

    keys: list[dict[str, Any]]


class IssuerKeys:
    """The published keys of an issuer (RFC 7517), by their ids.

    Args:
        url: of its key set.
        algorithms: keys of any other kind are left out.
    """

    def __init__(self, url: str, algorithms: Collection[str]) -> None:
        self._url = url
        self._algorithms = frozenset(algorithms)
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_SECONDS)
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._read_at = self._tried_at = float("-inf")
        self._lock = asyncio.Lock()
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key of an id; None if the issuer has none of it, as far as is known.

        One that is not known yet is asked for, unless that was done a moment ago. One that is known is given
        at once, and asked for again meanwhile if that was long ago.
        """
        if self._is_good() and key_id in self._keys:
            if time.monotonic() - self._read_at > _FRESH_SECONDS and not self._lock.locked():
                self._refreshing = asyncio.create_task(self._refresh())
            return self._keys[key_id]
        await self._refresh()
        return self._keys.get(key_id) if self._is_good() else None

    async def aclose(self) -> None:
        """Ask no more."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        await self._http.aclose()

    def _is_good(self) -> bool:
        return time.monotonic() - self._read_at <= _GOOD_SECONDS

    async def _refresh(self) -> None:
        async with self._lock:
            if time.monotonic() - self._tried_at < PAUSE_SECONDS:
                return
            self._tried_at = time.monotonic()
            try:
                self._keys = self._parse(await self._fetch())
            except (httpx.HTTPError, TimeoutError, ValueError) as error:
                log.warning("issuer_keys_unavailable", error=type(error).__name__)
            else:
                self._read_at = time.monotonic()

    async def _fetch(self) -> bytes:
        """The key set as it is published.

        Raises:
            httpx.HTTPError: it cannot be had.
            TimeoutError: it takes too long, however busily it comes.
            ValueError: it is too large.
        """
        content = b""
        async with asyncio.timeout(_TIMEOUT_SECONDS), self._http.stream("GET", self._url) as response:
            if not response.is_success:  # a redirect leads to where nobody said
                raise httpx.HTTPError("the issuer's keys are not there")
            async for block in response.aiter_bytes():
                content += block
                if len(content) > _MOST_BYTES:
                    raise ValueError("the issuer's keys are too large")
        return content

    def _parse(self, content: bytes) -> dict[str, jwt.PyJWK]:
        """The keys that tokens may be signed with.

        Raises:
            ValueError: it is no key set.
        """
        keys: dict[str, jwt.PyJWK] = {}
        for each in _KeySet.model_validate_json(content).keys:
            if not isinstance(each.get("kid"), str) or each.get("use", "sig") != "sig":
                continue
            try:
                key = jwt.PyJWK(each)
            except (jwt.PyJWTError, NotImplementedError, ValueError, TypeError):
                continue  # of a kind that is not known here, or of `none`
            # A shared secret among them would be one that everybody knows.
            if key.algorithm_name in self._algorithms:
                keys[each["kid"]] = key
        return keys
