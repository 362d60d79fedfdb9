"""Header floods and slow clients, over sockets: each is told why, or dropped, and holds nothing."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from app.serving.connections import Connections, Patience
from app.serving.protocol import BoundedProtocol

# With those who are to be answered, and with those who are not.
PATIENCE: Final = Patience(
    header_seconds=10, body_pause_seconds=10, reader_pause_seconds=10, farewell_seconds=0.1, look_seconds=0.02
)
IMPATIENCE: Final = replace(PATIENCE, header_seconds=0.3, body_pause_seconds=0.3, reader_pause_seconds=0.3)
LARGE: Final = 16 * 2**20


@dataclass
class Service:
    """A server of a few routes, what it counted, and what its application heard."""

    port: int
    connections: Connections
    refused: Counter[str] = field(default_factory=Counter)
    heard: list[Message] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for writer in self.writers:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def ask(self, *parts: bytes, pause: float = 0.0) -> tuple[int, dict[str, str], bytes]:
        """Send a request in parts and read until the connection ends."""
        reader, writer = await self.connect()
        sending = asyncio.create_task(send_slowly(writer, parts, pause))
        answer = await asyncio.wait_for(reader.read(), 5)
        sending.cancel()
        return parsed(answer)


async def send_slowly(writer: asyncio.StreamWriter, parts: Iterable[bytes], pause: float) -> None:
    with suppress(ConnectionError):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in headers), body


async def application(service: Service, scope: Scope, receive: Receive, send: Send) -> None:
    more = scope["path"] != "/large"
    while more:
        message = await receive()
        service.heard.append(message)
        more = message.get("more_body", False)
    body = b"x" * LARGE if scope["path"] == "/large" else b"well"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for start in range(0, len(body), 2**16):
        await send({"type": "http.response.body", "body": body[start : start + 2**16], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serving(patience: Patience = PATIENCE) -> AsyncIterator[Service]:
    counted: Counter[str] = Counter()
    connections = Connections(patience, lambda limit: counted.update([limit]))
    service = Service(0, connections, counted)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await application(service, scope, receive, send)

    config = uvicorn.Config(app, port=0, http=BoundedProtocol, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    server.lifespan.state["connections"] = connections
    await server.startup()
    service.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        await service.close()
        server.should_exit = True
        server.force_exit = True
        await server.shutdown()


def assert_problem(answer: tuple[int, dict[str, str], bytes], status: int, slug: str) -> None:
    given, headers, body = answer
    assert given == status
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    problem: dict[str, Any] = json.loads(body)
    assert problem["type"].endswith(f"/{slug}")
    assert problem["status"] == status
    assert problem["request_id"] == headers["x-request-id"]
    assert "canary" not in body.decode()


def request(*headers: bytes, target: bytes = b"/") -> bytes:
    return b"".join((b"GET ", target, b" HTTP/1.1\r\nHost: h\r\n", *headers, b"\r\n"))


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


TOO_MUCH: Final = {
    "10,000 headers": request(*(b"X-%d: canary\r\n" % number for number in range(10_000))),
    "101 headers": request(*(b"X-%d: canary\r\n" % number for number in range(100))),
    "a header of 2 MB": request(b"X: " + b"canary" * 350_000 + b"\r\n"),
    "a header of 9 KB": request(b"X: " + b"c" * 9000 + b"\r\n"),
    "a header that never ends": b"GET / HTTP/1.1\r\nX: " + b"canary" * 350_000,
    "40 KB of headers": request(*(b"X-%d: %s\r\n" % (number, b"c" * 4000) for number in range(10))),
    "trailers": (
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        + b"".join(b"X-%d: canary\r\n" % number for number in range(200))
        + b"\r\n"
    ),
}


@pytest.mark.parametrize("flood", TOO_MUCH)
async def test_a_flood_of_headers_is_refused_and_the_connection_ends(flood: str) -> None:
    async with serving() as service:
        assert_problem(await service.ask(TOO_MUCH[flood]), 431, "headers-too-large")
        assert service.refused == {"headers": 1}
        assert all(message["type"] == "http.request" for message in service.heard[:-1])


async def test_what_fits_is_answered() -> None:
    async with serving() as service:
        fits = request(
            *(b"X-%d: %s\r\n" % (number, b"c" * 300) for number in range(98)), b"Connection: close\r\n"
        )
        status, _, body = await service.ask(fits)
        assert (status, body) == (200, b"well")


async def test_a_long_address_is_refused() -> None:
    async with serving() as service:
        long = request(target=b"/" + b"canary" * 2000)
        assert_problem(await service.ask(long), 414, "address-too-long")
        assert_problem(await service.ask(b"GET /" + b"canary" * 400_000), 414, "address-too-long")


async def test_what_is_no_http_is_refused() -> None:
    async with serving() as service:
        assert_problem(await service.ask(b"canary\r\n\r\n"), 400, "bad-request")


async def test_headers_that_trickle_are_refused_in_time() -> None:
    async with serving(IMPATIENCE) as service:
        parts = [bytes([byte]) for byte in request()[:-2]]
        assert_problem(await service.ask(*parts, pause=0.02), 408, "request-timed-out")
        assert service.refused == {"slow_headers": 1}
        assert not service.heard


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
async def test_a_connection_on_which_nothing_is_asked_ends(sent: bytes) -> None:
    async with serving(IMPATIENCE) as service:
        reader, writer = await service.connect()
        writer.write(sent)
        await asyncio.wait_for(reader.read(), 2)
        writer.close()
        await eventually(lambda: not service.connections._by_network)


@pytest.mark.parametrize("pause", [0.02, 60])
async def test_a_body_that_trickles_or_stops_is_refused_and_the_application_told(pause: float) -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"
    async with serving(IMPATIENCE) as service:
        assert_problem(await service.ask(head, *[b"x"] * 1000, pause=pause), 408, "request-timed-out")
        await eventually(lambda: {"type": "http.disconnect"} in service.heard)
        assert service.refused == {"slow_body": 1}


async def test_a_steady_body_takes_as_long_as_it_takes() -> None:
    async with serving(replace(PATIENCE, body_pause_seconds=1, bytes_a_second=100)) as service:
        head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 600\r\n\r\n"
        status, _, body = await service.ask(head, *[b"x" * 10] * 60, pause=0.02)
        assert (status, body) == (200, b"well")


async def test_whoever_does_not_read_is_dropped() -> None:
    async with serving(IMPATIENCE) as service:
        _, writer = await service.connect()
        writer.write(request(target=b"/large"))
        await eventually(lambda: service.refused == {"slow_reader": 1})
        await eventually(lambda: not service.connections._by_network)


async def test_whoever_reads_slowly_but_steadily_is_not() -> None:
    async with serving(replace(PATIENCE, reader_pause_seconds=2, bytes_a_second=1024)) as service:
        reader, writer = await service.connect()
        writer.write(request(b"Connection: close\r\n", target=b"/large"))
        received = 0
        while chunk := await reader.read(2**20):
            received += len(chunk)
            await asyncio.sleep(0.02)
        assert received > LARGE
        assert not service.refused


async def test_one_connection_too_many_from_an_address_is_told_so() -> None:
    async with serving(replace(PATIENCE, connections_per_address=2)) as service:
        held = [await service.connect() for _ in range(2)]
        await eventually(lambda: service.connections._by_network.total() == 2)
        answer = await service.ask(request())
        assert_problem(answer, 503, "too-many-connections")
        assert answer[1]["retry-after"] == "1"
        held[0][1].close()
        await eventually(lambda: service.connections._by_network.total() == 1)
        assert (await service.ask(request(b"Connection: close\r\n")))[0] == 200


async def test_twice_too_many_are_not_even_answered() -> None:
    async with serving(replace(PATIENCE, connections=2)) as service:
        for _ in range(4):
            await service.connect()
        await eventually(lambda: service.connections._by_network.total() == 4)
        reader, _ = await service.connect()
        assert await asyncio.wait_for(reader.read(), 2) == b""
        assert service.refused == {"connections": 1}


async def test_an_answer_under_way_is_not_mixed_with_a_refusal() -> None:
    async with serving() as service:
        reader, writer = await service.connect()
        writer.write(request(target=b"/large"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(TOO_MUCH["101 headers"])
        received = b""
        while chunk := await asyncio.wait_for(reader.read(2**20), 5):
            received += chunk
        assert b"headers-too-large" not in received
        assert set(received) <= set(b"x")
