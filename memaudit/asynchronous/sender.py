"""Sending calls: repeated while the service is away, answered by documents, pages, lines or bytes."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx

from memaudit.answers import document, failure, read_as, unreachable
from memaudit.asynchronous.blocking import blocking, sleep
from memaudit.base import Answer
from memaudit.calls import Call, OnSent, pause
from memaudit.connection import Connection
from memaudit.errors import MemauditError

A = TypeVar("A", bound=Answer)

_BLOCK_BYTES: Final = 256 * 1024


class Sender:
    """One pool of connections to a service."""

    def __init__(self, connection: Connection, transport: httpx.AsyncBaseTransport | None) -> None:
        self.connection = connection
        self._http = httpx.AsyncClient(**connection.http_options(), transport=transport)

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def send(self, call: Call) -> httpx.Response:
        """The answer to a call, in full.

        Raises:
            ServiceUnreachable: for as long as the connection's patience lasted.
            RequestRefused: the service refused it.
        """
        patience = self.patience()
        while True:
            try:
                return await self._send_once(call)
            except MemauditError as error:
                await patience.pause(call, error)

    async def read(self, kind: type[A], call: Call) -> A:
        """The answer to a call as one of `memaudit.types`."""
        return read_as(kind, document(await self.send(call)))

    async def pages(
        self, kind: type[A], path: str, params: Mapping[str, Any], page_size: int | None = None
    ) -> AsyncIterator[A]:
        """All items of a list; each page is asked for when it is reached."""
        cursor: str | None = None
        while True:
            call = Call("GET", path, {**params, "limit": page_size, "cursor": cursor})
            page = document(await self.send(call), "data", "has_more")
            for item in page["data"]:
                yield read_as(kind, item)
            if not page["has_more"]:
                return
            cursor = page["next_cursor"]

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[httpx.Response]:
        """An answer whose body is read as it comes. It is not repeated: what came would come twice.

        Raises:
            ServiceUnreachable: it broke off, or did not begin.
            RequestRefused: the service refused it.
        """
        try:
            async with self._http.stream(**self._request(call)) as response:
                if not response.is_success:
                    await response.aread()
                    raise failure(response)
                yield response
        except httpx.RequestError as error:
            raise unreachable(self.connection.url, error) from error

    async def save(self, call: Call, target: Path) -> None:
        """Stream an answer into a file, which is there once all has come."""
        unfinished = target.with_name(f".{target.name}.part")
        patience = self.patience()
        while True:
            try:
                async with self.stream(call) as response:
                    with unfinished.open("wb") as file:
                        async for block in response.aiter_bytes(_BLOCK_BYTES):
                            await blocking(partial(file.write, block))
            except MemauditError as error:
                unfinished.unlink(missing_ok=True)
                await patience.pause(call, error)
                continue
            unfinished.replace(target)
            return

    def patience(self) -> "Patience":
        """How long to go on with something that breaks off."""
        return Patience(self.connection.patience)

    async def _send_once(self, call: Call) -> httpx.Response:
        try:
            response = await self._http.request(**self._request(call))
        except httpx.RequestError as error:
            raise unreachable(self.connection.url, error) from error
        if not response.is_success:
            raise failure(response)
        return response

    def _request(self, call: Call) -> dict[str, Any]:
        content = call.content
        if isinstance(content, Path):
            content = _file_blocks(content, call.on_sent)
        return {
            "method": call.method,
            "url": call.path,
            "params": call.query(),
            "json": call.json,
            "content": content,
            "headers": dict(call.headers),
        }


class Patience:
    """How long something is tried again that gets no further, from its first failure. Progress renews it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """It got further."""
        self._deadline: float | None = None
        self._attempts = 0

    async def pause(self, call: Call, error: MemauditError) -> None:
        """Wait before the next attempt.

        Raises:
            MemauditError: the error, if it does not pass or patience is over.
        """
        self._attempts += 1
        seconds = pause(self._attempts, error)
        if self._deadline is None:
            self._deadline = time.monotonic() + self._seconds
        if not call.may_repeat_after(error) or time.monotonic() + seconds > self._deadline:
            raise error
        await sleep(seconds)


async def _file_blocks(path: Path, on_sent: OnSent | None) -> AsyncIterator[bytes]:
    """A file, block by block; each is asked for once those before it have been sent."""
    with path.open("rb") as file:
        while block := await blocking(partial(file.read, _BLOCK_BYTES)):
            yield block
            if on_sent is not None:
                on_sent(file.tell())
