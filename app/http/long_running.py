"""What routes of long work share: telling a client where to follow it, and waiting for it."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final, Protocol, TypeVar

from fastapi import Response
from fastapi.sse import ServerSentEvent

from app.http.changes import Changes, Read, Resource
from app.store.operations import ACTIVE
from app.store.text_sets import TextSetStatus

_RETRY_AFTER_SECONDS: Final = "1"
_UNENDED: Final = frozenset({*ACTIVE, TextSetStatus.IMPORTING})


class Answer(Protocol):
    """A resource of long work as it is answered."""

    @property
    def status(self) -> str:
        """Where it stands."""


A = TypeVar("A", bound=Answer)


def add_follow_headers(response: Response, path: str | None = None) -> None:
    """Say in the headers of an answer when to ask again, and, when something was accepted, where."""
    response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    if path is not None:
        response.headers["Location"] = path


def has_ended(work: Answer) -> bool:
    """Whether work is in a terminal state."""
    return work.status not in _UNENDED


def status_of(work: Answer) -> str:
    """Where work stands."""
    return work.status


async def answer_when_ended(
    changes: Changes, resource: Resource, read: Read[A], response: Response, *, seconds: float
) -> A:
    """Work as it is when it has ended, or after some seconds; then the answer says when to ask again."""
    work = await wait_until_ended(changes, resource, read, seconds=seconds)
    if not has_ended(work):
        add_follow_headers(response)
    return work


async def wait_until_ended(changes: Changes, resource: Resource, read: Read[A], *, seconds: float) -> A:
    """Work when it has ended, or as it is when the time is over or the process ends."""
    if seconds <= 0:
        return await read()
    with changes.watch(resource, read) as watch:
        reading = await watch.fresh()
        try:
            async with asyncio.timeout(seconds) as limit:
                while not has_ended(reading.value) and not watch.is_over:
                    reading = await watch.after(reading.number)
        except TimeoutError:
            if not limit.expired():
                raise
        return reading.value


async def follow(
    changes: Changes,
    resource: Resource,
    read: Read[A],
    *,
    event_id: Callable[[A], str],
    seen: str | None,
    event: Callable[[A], str] = status_of,
) -> AsyncGenerator[ServerSentEvent]:
    """An event with the resource at each change of its `event_id`, until it has ended; `event` names it.

    It breaks off when the process ends: the client comes again, elsewhere, with what it has seen.

    A first state that the client has `seen`, as its event's id tells, is not sent again.
    """
    with changes.watch(resource, read) as watch:
        reading = await watch.fresh()
        while True:
            work = reading.value
            if event_id(work) != seen:
                seen = event_id(work)
                yield ServerSentEvent(data=work, event=event(work), id=seen, retry=1000)
            if has_ended(work) or watch.is_over:
                return
            reading = await watch.after(reading.number)
