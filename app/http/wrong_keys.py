"""Counting wrong keys by the address that they come from, in bounded memory."""

from math import ceil
from typing import Final

from app.http.buckets import Buckets
from app.serving.networks import network_of

_MOST_ADDRESSES: Final = 10_000


class WrongKeys:
    """A bucket for each address: so many wrong keys at once, and as many a minute thereafter.

    Args:
        a_minute: how many.
    """

    def __init__(self, a_minute: int) -> None:
        self._a_minute = a_minute
        self._buckets = Buckets(_MOST_ADDRESSES)

    def seconds_to_wait(self, address: str) -> int:
        """How long an address has to wait before another key of it is looked at; 0 if it need not."""
        return ceil(self._buckets.seconds_to_wait(network_of(address), self._a_minute))

    def count(self, address: str) -> None:
        """Count a wrong key."""
        self._buckets.add(network_of(address), self._a_minute)
