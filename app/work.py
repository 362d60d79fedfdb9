"""What routes of long work share: when to come back, and waiting for a change."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol, TypeVar

from fastapi import Response
from fastapi.sse import ServerSentEvent

from app.store.work import ACTIVE

_RETRY_AFTER_SECONDS: Final = "1"
_POLL_SECONDS: Final = 0.1

T = TypeVar("T")


class Answer(Protocol):
    """A resource of long work as it is answered."""

    @property
    def status(self) -> str:
        """Where it stands."""


A = TypeVar("A", bound=Answer)


def come_back(response: Response, path: str | None = None) -> None:
    """Say in the headers of an answer when to ask again, and, when something was accepted, where."""
    response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    if path is not None:
        response.headers["Location"] = path


def has_ended(work: Answer) -> bool:
    """Whether work is in a terminal state."""
    return work.status not in ACTIVE


async def read_waiting(read: Callable[[], Awaitable[A]], response: Response, *, seconds: float) -> A:
    """Work as it is when it has ended, or after some seconds; then the answer says when to ask again."""
    work = await poll_until(read, has_ended, seconds=seconds)
    if not has_ended(work):
        come_back(response)
    return work


async def poll_until(read: Callable[[], Awaitable[T]], done: Callable[[T], bool], *, seconds: float) -> T:
    """Read until `done`, or until the time is over; the last reading is returned either way."""
    deadline = time.monotonic() + seconds
    while True:
        reading = await read()
        remaining = deadline - time.monotonic()
        if done(reading) or remaining <= 0:
            return reading
        await asyncio.sleep(min(_POLL_SECONDS, remaining))


async def follow(
    work: A,
    read: Callable[[], Awaitable[A]],
    *,
    event_id: Callable[[A], str],
    seen: str | None,
) -> AsyncIterator[ServerSentEvent]:
    """An event with the resource at each change of its `event_id`, until it has ended.

    A first state that the client has `seen`, as its event's id tells, is not sent again.
    """
    while True:
        if event_id(work) != seen:
            seen = event_id(work)
            yield ServerSentEvent(data=work, event=work.status, id=seen, retry=1000)
        if has_ended(work):
            return
        work = await poll_until(read, lambda reading, shown=seen: event_id(reading) != shown, seconds=60)  # type: ignore[misc]
