"""Counting wrong keys by the address that they come from, in bounded memory."""

import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from math import ceil
from typing import Final

_MOST_ADDRESSES: Final = 10_000
_MINUTE: Final = 60.0
# Of an IPv6 address, what a provider gives to one customer.
_NETWORK_BITS: Final = 64


class WrongKeys:
    """A bucket for each address: so many wrong keys at once, and as many a minute thereafter.

    Args:
        a_minute: how many.
    """

    def __init__(self, a_minute: int) -> None:
        self._most = float(a_minute)
        # How full a bucket was, and when. The one that was touched longest ago is given up first.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, address: str) -> int:
        """How long an address has to wait before another key of it is looked at; 0 if it need not."""
        over = self._level(_network(address)) + 1 - self._most
        return max(0, ceil(over * _MINUTE / self._most))

    def count(self, address: str) -> None:
        """Count a wrong key."""
        network = _network(address)
        self._buckets[network] = self._level(network) + 1, time.monotonic()
        self._buckets.move_to_end(network)
        if len(self._buckets) > _MOST_ADDRESSES:
            self._buckets.popitem(last=False)

    def _level(self, network: str) -> float:
        level, since = self._buckets.get(network, (0.0, 0.0))
        return max(0.0, level - (time.monotonic() - since) * self._most / _MINUTE)


def _network(address: str) -> str:
    """The address itself, or the network of an IPv6 address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:  # as a socket for both kinds tells of IPv4 clients
            return str(parsed.ipv4_mapped)
        return f"{int(parsed) >> _NETWORK_BITS:x}::"
    return address
