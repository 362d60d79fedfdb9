"""Waiting for resources to change: all who wait for one share its readings, and news comes by notification.

A resource is read when somebody begins to wait for it, at each news of it, and now and then in case a
notification was lost. So those who wait cost nothing while nothing happens.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import UUID

import psycopg
import structlog

from app.store.changes import listening

log = structlog.get_logger()

# Between two readings without news; longer where many resources are waited for.
POLL_SECONDS: Final = 5.0
_POLLS_A_SECOND: Final = 10
# Between two readings of one resource, whatever the news.
_SHORTEST_SECONDS: Final = 0.05
# Readings of all resources under way at once: the pool has other users.
_READINGS_AT_ONCE: Final = 4
# Before the database is tried again, at first and at most.
_RECONNECT_SECONDS: Final = (0.2, 10.0)

T = TypeVar("T")
Read = Callable[[], Awaitable[T]]


class Resource(NamedTuple):
    """What is waited for: whose it is and which."""

    tenant_id: UUID
    id: UUID


@dataclass(frozen=True)
class Reading(Generic[T]):
    """A resource as it was read; those of one watch are numbered from 1."""

    number: int
    value: T


@dataclass(frozen=True)
class FailedReading:
    """Why a resource could not be read."""

    number: int
    error: Exception


class Watch(Generic[T]):
    """A resource that somebody waits for. One task reads it for all of them."""

    def __init__(self, read: Read[T], *, is_over: bool = False) -> None:
        self.waiting = 0
        # Whether nobody may wait any longer, as the process ends.
        self.is_over = is_over
        self._read = read
        self._begun = 0
        self._latest: Reading[T] | FailedReading | None = None
        self._wanted = asyncio.Event()
        self._published = asyncio.Event()

    def want(self) -> None:
        """Let it be read soon."""
        self._wanted.set()

    async def fresh(self) -> Reading[T]:
        """A reading that begins after this call.

        Raises:
            Exception: whatever the reading raised.
        """
        begun = self._begun
        self.want()
        return await self.after(begun)

    async def after(self, number: int) -> Reading[T]:
        """The latest reading once there is one after a number, or at once when nobody may wait any longer.

        Raises:
            Exception: whatever the reading raised.
        """
        while self._latest is None or (self._latest.number <= number and not self.is_over):
            await self._published.wait()
        if isinstance(self._latest, FailedReading):
            raise self._latest.error.with_traceback(None)  # it is raised to each who waits
        return self._latest

    async def keep_reading(self, slots: asyncio.Semaphore, pause: Callable[[], float]) -> None:
        """Read when it is wanted, and after a pause all the same, until nobody waits."""
        while self.waiting:
            async with slots:
                self._wanted.clear()
                self._begun += 1
                self._publish(await self._reading(self._begun))
            await asyncio.sleep(_SHORTEST_SECONDS)
            await self._news_or_pause(pause)

    async def _news_or_pause(self, pause: Callable[[], float]) -> None:
        """Until it is wanted, or a pause is over, which may grow while it lasts."""
        began = time.monotonic()
        while not self._wanted.is_set() and (left := began + pause() - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wanted.wait()

    async def _reading(self, number: int) -> Reading[T] | FailedReading:
        try:
            return Reading(number, await self._read())
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            return FailedReading(number, error)

    def end(self) -> None:
        """Let nobody wait any longer."""
        self.is_over = True
        self._tell()

    def _publish(self, reading: Reading[T] | FailedReading) -> None:
        self._latest = reading
        self._tell()

    def _tell(self) -> None:
        published, self._published = self._published, asyncio.Event()
        published.set()


class Changes:
    """What this process waits for, and its one connection that listens."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._watches: dict[UUID, dict[UUID, Watch[Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_READINGS_AT_ONCE)
        self._is_over = False

    @contextmanager
    def watch(self, resource: Resource, read: Read[T]) -> Iterator[Watch[T]]:
        """Wait for a resource while the block runs, together with all others that wait for it.

        Args:
            resource: what is read.
            read: reads it; the first one's is used for all.
        """
        by_tenant = self._watches.setdefault(resource.id, {})
        watch = by_tenant.get(resource.tenant_id)
        if watch is None:
            watch = by_tenant[resource.tenant_id] = Watch(read, is_over=self._is_over)
            # What is logged belongs to no request of those that wait.
            task = asyncio.create_task(watch.keep_reading(self._slots, self._pause), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        watch.waiting += 1
        try:
            yield watch
        finally:
            watch.waiting -= 1
            if not watch.waiting:
                watch.want()  # so that its task ends
                del by_tenant[resource.tenant_id]
                if not by_tenant:
                    del self._watches[resource.id]

    async def listen_forever(self) -> None:
        """Until cancelled: hear of changes. While the database cannot be heard, the slow polls go on."""
        shortest, longest = _RECONNECT_SECONDS
        delay = shortest
        while True:
            try:
                async with listening(self._database_url) as changed:
                    delay = shortest
                    self._want_all()  # what changed before was not heard
                    async for resource_id in changed:
                        for watch in self._watches.get(resource_id, {}).values():
                            watch.want()
            except (psycopg.Error, OSError, ValueError) as error:
                log.warning("listener_lost", error=type(error).__name__)
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311 - not a secret
            delay = min(2 * delay, longest)

    def end_waits(self) -> None:
        """Let nobody wait any longer, as the process ends."""
        self._is_over = True
        for by_tenant in self._watches.values():
            for watch in by_tenant.values():
                watch.end()

    async def close(self) -> None:
        """Stop reading."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _want_all(self) -> None:
        for by_tenant in self._watches.values():
            for watch in by_tenant.values():
                watch.want()

    def _pause(self) -> float:
        seconds = max(POLL_SECONDS, len(self._watches) / _POLLS_A_SECOND)
        return seconds * random.uniform(1, 1.2)  # noqa: S311 - not a secret
