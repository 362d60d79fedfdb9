"""How many connections a process serves, and how patient it is with each."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from app.serving.networks import network_of

# Under this name the protocol finds them in the state that the application's lifespan gives out.
STATE: Final = "connections"


@dataclass(frozen=True)
class Patience:
    """What is read of a request, and how long is waited on a connection.

    Attributes:
        connections: that are served at once.
        connections_per_address: of those from one address, or from one network of IPv6.
        address_bytes: of a request's path and query.
        header_bytes: of one header.
        headers: how many.
        all_headers_bytes: of all of them.
        header_seconds: within which they must be there.
        body_pause_seconds: that a body may pause.
        bytes_a_second: that a body must keep to on average once it has come for as long as it may pause, and
            who reads an answer all the time.
        reader_pause_seconds: over which the pace of who reads is taken.
        farewell_seconds: that a refused client has to read why.
        look_seconds: between two looks at each connection.
    """

    connections: int = 1000
    connections_per_address: int = 500
    address_bytes: int = 8 * 1024
    header_bytes: int = 8 * 1024
    headers: int = 100
    all_headers_bytes: int = 32 * 1024
    header_seconds: float = 10.0
    body_pause_seconds: float = 30.0
    bytes_a_second: float = 1024.0
    reader_pause_seconds: float = 30.0
    farewell_seconds: float = 2.0
    look_seconds: float = 1.0

    @property
    def kept_pace_bytes(self) -> float:
        """What who keeps to the pace reads in a pause."""
        return self.bytes_a_second * self.reader_pause_seconds

    @property
    def head_bytes(self) -> int:
        """What comes before a body: the request line and all headers, with what separates them."""
        return 2 * (self.address_bytes + self.all_headers_bytes)


@dataclass
class Connections:
    """The connections of a process. `count_refused` is told the limit that each refused one passed."""

    patience: Patience = field(default_factory=Patience)
    count_refused: Callable[[str], object] = lambda _limit: None
    _by_network: Counter[str] = field(default_factory=Counter)

    @property
    def far_too_many(self) -> bool:
        """Whether there are so many that one more is not even answered."""
        return self._by_network.total() > 2 * self.patience.connections

    def enter(self, address: str) -> bool:
        """Note a connection that was made; whether it is one of those that are served."""
        network = network_of(address)
        self._by_network[network] += 1
        return (
            self._by_network.total() <= self.patience.connections
            and self._by_network[network] <= self.patience.connections_per_address
        )

    def leave(self, address: str) -> None:
        """Note that a connection has ended."""
        network = network_of(address)
        self._by_network[network] -= 1
        if not self._by_network[network]:
            del self._by_network[network]
