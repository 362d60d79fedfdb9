"""Who is let in, who waits and who is refused, and that nobody holds a place without need."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from app.errors import Overloaded
from app.http.admission import Admission, Kind, Lane, Room, kind_of
from app.http.dependencies import _changes
from app.main import _rooms, create_app
from app.pages.install import _ROUTERS
from app.settings import Settings

JSON = (b"accept", b"application/json")
KEY = (b"authorization", b"Bearer mak_key")


def scope(path: str, method: str = "GET", query: str = "", *headers: tuple[bytes, bytes]) -> Scope:
    return {
        "type": "http",
        "path": path,
        "method": method,
        "query_string": query.encode(),
        "headers": list(headers) or [JSON, KEY],
    }


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (scope("/healthz"), None),
        (scope("/readyz"), None),
        (scope("/metrics"), None),
        (scope("/v1/audits", "POST"), Kind.SHORT),
        (scope("/v1/audits/aud_1"), Kind.SHORT),
        (scope("/v1/audits/aud_1", "GET", "wait=30"), Kind.WAITING),
        (scope("/v1/audits/aud_1/events"), Kind.WAITING),
        (scope("/v1/events"), Kind.SHORT),
        (scope("/v1/score", "POST"), Kind.WAITING),
        (scope("/try", "POST"), Kind.WAITING),
        (scope("/try"), Kind.SHORT),
        (scope("/v1/audits/aud_1/scores"), Kind.SHORT),
        (scope("/v1/audits/aud_1/scores", "GET", "", (b"accept", b"text/csv;q=0.9")), Kind.BULK),
        (scope("/audits/aud_1/scores.csv"), Kind.BULK),
        (scope("/v1/audits/aud_1/evidence/pdf"), Kind.BULK),
        (scope("/v1/artifacts/art_1/files/model.safetensors"), Kind.BULK),
        (scope("/acme/name/resolve/main/config.json", "HEAD"), Kind.BULK),
        (scope("/v1/text-sets", "POST"), Kind.BULK),
        (scope("/v1/text-sets/txs_1/texts"), Kind.HEAVY),
        (scope("/v1/audits/aud_1/scores/a/b/tokens"), Kind.HEAVY),
        # A parameter that a route does not know takes nobody past the queue.
        (scope("/v1/text-sets/txs_1/texts", "GET", "wait=1"), Kind.HEAVY),
        (scope("/v1/audits", "GET", "wait=1"), Kind.SHORT),
        (scope("/v1/audits/aud_1/scores", "GET", "wait=1"), Kind.SHORT),
        (scope("/v1/text-sets/txs_1", "DELETE"), Kind.ERASURE),
        (scope("/v1/text-sets/txs_1/texts", "DELETE"), Kind.SHORT),
        (scope("/v1/models/mdl_1", "DELETE"), Kind.SHORT),
    ],
)
def test_a_request_is_of_a_kind(asked: Scope, kind: Kind | None) -> None:
    assert kind_of(asked) == kind


def test_every_route_that_waits_or_streams_has_a_lane_of_its_own() -> None:
    """By what the routes themselves say: a new one that lasts must not take the places of short ones."""
    paths = create_app(Settings()).openapi()["paths"]
    lasting = []
    for path, methods in paths.items():
        for method, operation in methods.items():
            answers = operation["responses"].get("200", {}).get("content", {})
            names = {parameter["name"] for parameter in operation.get("parameters", [])}
            # Whoever says so where nothing is waited for gets no place among those that wait.
            kind = kind_of(scope(path, method.upper(), "wait=1"))
            if "wait" in names or "text/event-stream" in answers or path == "/v1/score":
                lasting.append(path)
                assert kind is Kind.WAITING, path
            elif any("application/octet-stream" in each or "tar" in each for each in answers):
                lasting.append(path)
                assert kind is Kind.BULK, path
            else:
                assert kind is not Kind.WAITING, path
    assert len(lasting) > 10


def test_every_page_that_waits_for_work_is_among_those_that_wait() -> None:
    waiting = set()
    for router in _ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute):
                waits = _changes in called(route.dependant)
                for method in route.methods:
                    assert (kind_of(scope(route.path, method)) is Kind.WAITING) == waits, route.path
                    waiting |= {(method, route.path)} if waits else set()
    assert waiting == {("POST", "/try")}


def called(dependant: Dependant) -> Iterator[object]:
    """What a route asks for, and what that asks for."""
    for each in dependant.dependencies:
        yield each.call
        yield from called(each)


async def test_places_are_given_in_turn_and_the_surplus_is_refused() -> None:
    lane = Lane(Room(at_once=2, waiting=2, seconds=60))
    order: list[int] = []

    async def ask(number: int) -> None:
        await lane.enter()
        order.append(number)

    asked = [asyncio.create_task(ask(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert (order, lane.in_work, lane.waiting) == ([0, 1], 2, 2)
    with pytest.raises(Overloaded):
        await lane.enter()
    for _ in range(2):
        lane.leave()
    await asyncio.gather(*asked)
    assert (order, lane.in_work, lane.waiting) == ([0, 1, 2, 3], 2, 0)
    for _ in range(2):
        lane.leave()
    assert lane.in_work == 0


async def test_a_queue_that_stands_is_refused_sooner_than_one_that_has_just_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    lane = Lane(Room(at_once=1, waiting=5, seconds=10))
    await lane.enter()

    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def joined_at(moment: float) -> asyncio.Task[None]:
        nonlocal now
        now = moment
        task = asyncio.create_task(lane.enter())
        await asyncio.sleep(0)
        return task

    begun, still_young, standing = [await joined_at(moment) for moment in (1000.0, 1009.0, 1010.0)]
    refused: list[list[bool]] = []
    for moment in (1019.9, 1020.1, 1028.9, 1029.1):
        now = moment
        await settle()
        refused.append([begun.done(), still_young.done(), standing.done()])
    assert refused == [[False] * 3, [True, False, True], [True, False, True], [True] * 3]
    # It has been empty: another one begins.
    begun_again = await joined_at(1030.0)
    now = 1049.9
    await settle()
    assert not begun_again.done()
    lane.leave()
    await begun_again
    for task in (begun, still_young, standing):
        assert isinstance(task.exception(), Overloaded)


async def test_who_waits_too_long_or_gives_up_leaves_no_trace() -> None:
    lane = Lane(Room(at_once=1, waiting=5, seconds=0.01))
    await lane.enter()
    with pytest.raises(Overloaded):
        await lane.enter()
    gives_up = asyncio.create_task(lane.enter())
    await asyncio.sleep(0)
    gives_up.cancel()
    # It is passed over in the same moment, before it has heard that it was cancelled.
    lane.leave()
    with pytest.raises(asyncio.CancelledError):
        await gives_up
    assert (lane.in_work, lane.waiting) == (0, 0)
    await lane.enter()
    given_up_late = asyncio.create_task(lane.enter())
    await asyncio.sleep(0)
    lane.leave()  # its turn has come
    given_up_late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up_late
    assert (lane.in_work, lane.waiting) == (0, 0)


class Client:
    """Sends a request to a middleware in parts, and hears the answer."""

    def __init__(self, admission: Admission, asked: Scope) -> None:
        self.parts: asyncio.Queue[Message] = asyncio.Queue()
        self.heard: list[Message] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.task = asyncio.create_task(admission(asked, self.parts.get, self._hear))

    def send(self, body: bytes = b"", *, more: bool = False) -> None:
        self.parts.put_nowait({"type": "http.request", "body": body, "more_body": more})

    async def _hear(self, message: Message) -> None:
        self.heard.append(message)
        await self.reads.wait()

    @property
    def status(self) -> int | None:
        return next((each["status"] for each in self.heard if "status" in each), None)


Serve = Callable[[Scope, Receive, Send], Awaitable[None]]


def admission(serve: Serve, refused: list[Kind] | None = None) -> Admission:
    one = Room(at_once=1)
    rooms = {Kind.SHORT: one, Kind.WAITING: one, Kind.BULK: one}
    count = (lambda _kind: None) if refused is None else refused.append
    return Admission(serve, rooms, most_body_bytes=100, count_refused=count)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def echo(_scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def test_who_sends_or_reads_slowly_holds_no_place_of_the_short_requests() -> None:
    served = admission(echo)
    slow = Client(served, scope("/v1/audits", "POST"))
    slow.send(b"half", more=True)
    reader = Client(served, scope("/v1/audits", "POST"))
    reader.reads.clear()
    reader.send(b"whole")
    await settle()
    assert reader.status == 200
    assert len(reader.heard) == 1  # the rest of its answer waits for it
    quick = Client(served, scope("/v1/audits", "POST"))
    quick.send(b"whole")
    await quick.task
    assert [each.get("body") for each in quick.heard] == [None, b"whole"]
    slow.send(b" of it")
    reader.reads.set()
    await asyncio.gather(slow.task, reader.task)
    assert slow.heard[-1]["body"] == b"half of it"
    assert served.lanes[Kind.SHORT].in_work == 0


async def test_the_body_of_a_request_that_only_reads_is_not_waited_for() -> None:
    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    client = Client(admission(answer), scope("/v1/audits"))
    client.send(b"half", more=True)
    await asyncio.wait_for(client.task, 5)
    assert client.status == 200


async def test_a_body_that_is_too_long_is_left_to_the_application() -> None:
    served = admission(echo)
    client = Client(served, scope("/v1/audits", "POST"))
    for _ in range(3):
        client.send(b"x" * 60, more=True)
    await settle()
    assert served.lanes[Kind.SHORT].in_work == 1
    client.send(b"y")
    await client.task
    assert client.heard[-1]["body"] == b"x" * 180 + b"y"


async def test_no_download_keeps_texts_from_being_erased() -> None:
    """All places of downloads are taken: an erasure is let in, or waits for others of its kind."""
    at_work = asyncio.Event()

    async def serve(_scope: Scope, _receive: Receive, send: Send) -> None:
        await at_work.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    settings = Settings(transfers=2, waiting_seconds=60)
    app = {"app": create_app(settings)}
    served = Admission(serve, _rooms(settings), most_body_bytes=100, count_refused=lambda _kind: None)
    downloads = [Client(served, app | scope("/v1/audits/aud_1/evidence/pdf")) for _ in range(3)]
    erasures = [Client(served, app | scope("/v1/text-sets/txs_1", "DELETE")) for _ in range(6)]
    await settle()
    assert [each.status for each in downloads] == [None, None, 503]
    assert [each.status for each in erasures] == [None] * 6
    at_work.set()
    await asyncio.gather(*(each.task for each in (*downloads, *erasures)))
    assert [each.status for each in erasures] == [200] * 6


async def test_one_that_breaks_off_or_fails_gives_its_place_back() -> None:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ConnectionResetError

    served = admission(fail)
    client = Client(served, scope("/v1/audits"))
    client.send()
    with pytest.raises(ConnectionResetError):
        await client.task
    assert served.lanes[Kind.SHORT].in_work == 0
