"""Whose job a process claims next: loaded language models are preferred, but not for ever."""

import time
from collections.abc import Callable, Mapping
from uuid import UUID

from app.store.jobs.leases import Lease
from app.store.jobs.lines import TENANTS_AT_ONCE


class Turns:
    """Keeps a process at the language models it has loaded for a while, and then lets others have their turn.

    Without the first, two audits would have their language models loaded in turn for each shard; without the
    second, one audit would wait for the whole of another.

    Args:
        seconds: how long a turn lasts, counted from the end of its first job: loading takes no part of it.
        clock: seconds that never go back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._began: float | None = None
        self._served: dict[UUID, None] = {}
        self._last: dict[int, UUID] = {}

    @property
    def served(self) -> list[UUID]:
        """The tenants that were served, the last one last."""
        return list(self._served)

    @property
    def last(self) -> Mapping[int, UUID]:
        """The tenant that was served last, by priority. Of many, the next one is found from there."""
        return self._last

    def preferred(self, loaded: list[UUID]) -> list[UUID]:
        """The language models that the next claim prefers: those loaded, or none if the turn is over."""
        if self._began is not None and self._clock() - self._began >= self._seconds:
            self._began = None
        return [] if self._began is None else loaded

    def serve(self, lease: Lease) -> None:
        """Note whose job was claimed."""
        self._last[lease.priority] = lease.tenant_id
        self._served.pop(lease.tenant_id, None)
        self._served[lease.tenant_id] = None
        # A claim tells no more than these apart.
        if len(self._served) > TENANTS_AT_ONCE:
            del self._served[next(iter(self._served))]

    def job_ended(self) -> None:
        """Begin a turn, if the job that ended was the first of one."""
        if self._began is None:
            self._began = self._clock()
