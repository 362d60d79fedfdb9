"""Following what is written down: each event once and in order, whenever one comes."""

from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from fastapi.sse import ServerSentEvent

from app.events import service
from app.events.service import Scope
from app.http.changes import Changes, Read, Resource
from app.store.core.unit_of_work import Store

R = TypeVar("R")


async def follow_events(
    changes: Changes,
    store: Store,
    resource: Resource,
    read: Read[R],
    scope: Scope,
    *,
    last_event_id: str | None,
    is_over: Callable[[R], bool],
) -> AsyncGenerator[ServerSentEvent]:
    """All events of a scope after one that was seen, until what they tell of is over.

    Args:
        changes: what this process listens to.
        store: to read with.
        resource: whose news are waited for.
        read: reads it.
        scope: which events.
        last_event_id: of one that was seen.
        is_over: whether no more events can come of it.
    """
    place = await store.run(service.place_after, scope.tenant_id, last_event_id)
    with changes.watch(resource, read) as watch:
        reading = await watch.fresh()
        while True:
            while news := await store.run(service.read_news, scope, place):
                for place, event in news:  # noqa: B007 - where the next reading begins
                    yield ServerSentEvent(data=event, event=event.type, id=event.id, retry=1000)
            if is_over(reading.value) or watch.is_over:
                return
            reading = await watch.after(reading.number)
