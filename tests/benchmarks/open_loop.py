"""`python -m tests.benchmarks.open_loop`: requests that are due at fixed times, whatever became of others.

A client that waits for its answers offers less the slower they come, and so never sees an overload
(Schroeder, Wierman and Harchol-Balter, "Open versus closed: a cautionary tale", NSDI 2006). Seconds count
from the time at which a request was due, so that one which could not be sent in time counts in full.

A `Plan` as JSON comes on stdin and a list of `Outcome` goes to stdout: a process of its own shares no
interpreter with what it measures. Each connection speaks HTTP/1.1 by hand, which costs a tenth of a client
library, on cores that the service needs.
"""

import asyncio
import itertools
import json
import resource
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, cast

import uvloop

_MOST_CONNECTIONS: Final = 4000
# The service closes a connection that idles for five seconds; one that is about to be closed is not used.
_IDLE_SECONDS: Final = 3.0
# How long answers are waited for after the last request was due.
_PATIENCE_SECONDS: Final = 60.0
# Before one of a fixed number of clients asks again that was refused.
_REFUSED_PAUSE_SECONDS: Final = 0.05
_REFUSALS: Final = frozenset({429, 503})


@dataclass(frozen=True)
class Requests:
    """Requests of one kind: `rate` a second, or as many as `clients` that wait for their answers send.

    `paths` are asked for in turn. With a `body` each gets an Idempotency-Key of its own.
    """

    name: str
    method: str
    paths: Sequence[str]
    body: dict[str, Any] | None = None
    rate: float = 0.0
    clients: int = 0


@dataclass(frozen=True)
class Plan:
    """What is sent where, and for how many seconds."""

    host: str
    port: int
    key: str
    seconds: float
    requests: Sequence[Requests]


@dataclass
class Outcome:
    """What became of requests of one kind. Latencies are in seconds since they were due.

    `refused` are 429 and 503 with a Retry-After; any other status that is no success is `failed`; `broken`
    are those whose connection was lost, or that had no answer a minute after the last was due.
    """

    name: str
    offered: int = 0
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    latest_start: float = 0.0

    @property
    def errors(self) -> int:
        """How many got no answer that a client can act on."""
        return sum(self.failed.values()) + self.broken


def offer(plan: Plan) -> list[Outcome]:
    """Carry out a plan in a process of its own."""
    process = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.open_loop"],
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        raise RuntimeError(process.stderr)
    return [Outcome(**each) for each in json.loads(process.stdout)]


def quantile(seconds: Sequence[float], share: float) -> float:
    """The value that a share of all does not exceed; NaN of none."""
    if not seconds:
        return float("nan")
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


Answered = Callable[[int, bool], None]


class Connection(asyncio.Protocol):
    """One kept-alive connection. It sends one request at a time."""

    def __init__(self, free: list["Connection"]) -> None:
        self._free = free
        self._transport: asyncio.Transport | None = None
        self._answered: Answered | None = None
        self._received = b""
        self.idle_since = 0.0
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, answered: Answered) -> None:
        """Send a request; `answered` is told its status, 0 if there is none, and whether to come again."""
        assert self._transport is not None
        self._answered = answered
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Called by the loop: an answer is there once its body is."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        lower = head.lower()
        _, found, tail = lower.partition(b"\r\ncontent-length:")
        length = int(tail.partition(b"\r\n")[0]) if found else 0
        if len(body) < length:
            return
        self._received = b""
        self.idle_since = time.perf_counter()
        if b"\r\nconnection: close" in lower:
            self.closed = True
            self.close()
        else:
            self._free.append(self)
        self._tell(int(head[9:12]), retry=b"\r\nretry-after:" in lower)

    def connection_lost(self, _error: Exception | None) -> None:
        """Called by the loop."""
        self.closed = True
        self._tell(0, retry=False)

    def _tell(self, status: int, *, retry: bool) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status, retry)


class Client:
    """Sends requests over as many connections as they need at once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._free: list[Connection] = []
        self._open = 0
        self._waiting: set[asyncio.Task[None]] = set()
        self.under_way = 0

    def send(self, request: bytes, outcome: Outcome, due: float, then: Callable[[bool], None]) -> None:
        """Send a request that was due; `then` is told, once it has ended, whether it was refused."""
        outcome.offered += 1
        outcome.latest_start = max(outcome.latest_start, time.perf_counter() - due)
        self.under_way += 1

        def answered(status: int, retry: bool) -> None:
            self.under_way -= 1
            seconds = time.perf_counter() - due
            refused = status in _REFUSALS and retry
            if refused:
                outcome.refused.append(seconds)
            elif 200 <= status < 300:
                outcome.accepted.append(seconds)
            elif status == 0:
                outcome.broken += 1
            else:
                outcome.failed[str(status)] = outcome.failed.get(str(status), 0) + 1
            then(refused)

        connection = self._idle()
        if connection is not None:
            connection.send(request, answered)
        elif self._open >= _MOST_CONNECTIONS:
            answered(0, retry=False)
        else:
            task = asyncio.get_running_loop().create_task(self._connect_and_send(request, answered))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    def _idle(self) -> Connection | None:
        now = time.perf_counter()
        while self._free:
            connection = self._free.pop()
            if not connection.closed and now - connection.idle_since < _IDLE_SECONDS:
                return connection
            self._open -= 1
            connection.close()
        return None

    async def _connect_and_send(self, request: bytes, answered: Answered) -> None:
        self._open += 1
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: Connection(self._free), self._plan.host, self._plan.port
            )
        except OSError:
            answered(0, retry=False)
        else:
            connection.send(request, answered)


def _requests_of(plan: Plan, requests: Requests) -> Iterator[bytes]:
    """The requests of one kind, one after the other."""
    common = f"Host: {plan.host}:{plan.port}\r\nAuthorization: Bearer {plan.key}\r\n"
    body = b"" if requests.body is None else json.dumps(requests.body).encode()
    if body:
        common += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    run, numbers = uuid.uuid4().hex, itertools.count()
    for path in itertools.cycle(requests.paths):
        key = f"Idempotency-Key: {run}-{next(numbers)}\r\n" if body else ""
        yield f"{requests.method} {path} HTTP/1.1\r\n{common}{key}\r\n".encode() + body


async def _send_at_rate(client: Client, plan: Plan, requests: Requests, outcome: Outcome) -> None:
    began = time.perf_counter()
    each = _requests_of(plan, requests)
    for number in range(int(requests.rate * plan.seconds)):
        due = began + number / requests.rate
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        client.send(next(each), outcome, due, lambda _refused: None)


async def _send_in_turn(client: Client, plan: Plan, requests: Requests, outcome: Outcome) -> None:
    each = _requests_of(plan, requests)
    end = time.perf_counter() + plan.seconds

    async def ask() -> None:
        while (now := time.perf_counter()) < end:
            ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            client.send(next(each), outcome, now, ended.set_result)
            if await ended:
                await asyncio.sleep(_REFUSED_PAUSE_SECONDS)

    await asyncio.gather(*(ask() for _ in range(requests.clients)))


async def carry_out(plan: Plan) -> list[Outcome]:
    """Send all that is planned and wait for the answers."""
    client = Client(plan)
    outcomes = [Outcome(requests.name) for requests in plan.requests]
    await asyncio.gather(
        *(
            (_send_at_rate if requests.rate else _send_in_turn)(client, plan, requests, outcome)
            for requests, outcome in zip(plan.requests, outcomes, strict=True)
        )
    )
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while client.under_way and time.perf_counter() < deadline:  # noqa: ASYNC110 - that is soon enough
        await asyncio.sleep(0.01)
    for outcome in outcomes:
        ended = len(outcome.accepted) + len(outcome.refused) + outcome.errors
        outcome.broken += outcome.offered - ended
    return outcomes


def main() -> None:
    """Read a plan, carry it out and print what became of it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2 * _MOST_CONNECTIONS), most))
    read = json.load(sys.stdin)
    plan = Plan(**read | {"requests": [Requests(**each) for each in read["requests"]]})
    outcomes = uvloop.run(carry_out(plan))
    json.dump([asdict(outcome) for outcome in outcomes], sys.stdout)


if __name__ == "__main__":
    main()
