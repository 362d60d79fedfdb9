"""Counting events by who causes them, in bounded memory: a bucket for each, which drains as time goes by."""

import time
from collections import OrderedDict
from typing import Final

MINUTE: Final = 60.0


class Buckets:
    """Buckets by name. One holds as many events as it drains in a minute.

    This is the generic cell rate algorithm (ITU-T I.371) with a burst of a minute; no event is kept.

    Args:
        most: buckets that are kept; the one that was touched longest ago is given up first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # How full a bucket was, and when.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many buckets are kept."""
        return len(self._buckets)

    def level(self, name: str, a_minute: float) -> float:
        """How many events are in a bucket now, as it drains `a_minute`.

        One that was larger is full: whoever may do less than before waits no longer than others of that rate.
        """
        level, since = self._buckets.get(name, (0.0, 0.0))
        return max(0.0, min(level, float(a_minute)) - (time.monotonic() - since) * a_minute / MINUTE)

    def add(self, name: str, a_minute: float) -> None:
        """Put an event into a bucket."""
        self._buckets[name] = self.level(name, a_minute) + 1, time.monotonic()
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)

    def seconds_to_wait(self, name: str, a_minute: float) -> float:
        """How long until a bucket has room for an event; 0 if it has."""
        return max(0.0, self.level(name, a_minute) + 1 - a_minute) * MINUTE / a_minute
