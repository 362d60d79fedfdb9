"""Admission: how many requests are in work at once, how long others wait, and which are refused.

A service that takes in more than it carries answers everybody late, until all have given up and it works for
nobody. So requests in work are bounded, those that wait are few, and none waits for long: the rest is refused
at once, before anything is looked up for it, with the time at which to come again. Whoever is accepted is
answered soon, however many ask (Welsh and Culler, "Adaptive overload control for busy internet servers",
USITS 2003). A queue that stands is refused sooner than one that has just begun, as behind a disk that held up
all commits for half a second: that one will be empty again soon (Nichols and Jacobson, "Controlling queue
delay", ACM Queue 10(5), 2012).

Requests of each kind have a lane of their own: those that wait for something to happen, or move much, are
many or slow, cost little meanwhile, and must not take the place of those that are answered at once.
"""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Overloaded, Unauthorized
from app.http.problems import answer_failure


class Kind(StrEnum):
    """What a request does to the service."""

    SHORT = "short"  # answered as soon as it can be
    HEAVY = "heavy"  # as soon as it can be, but texts are opened for it, which holds up the process
    WAITING = "waiting"  # a long poll or an event stream: costs next to nothing until something happens
    BULK = "bulk"  # an export, a download, a document, an upload: as long as its size or its reader
    ERASURE = "erasure"  # of a text set: as long as its size, and no download may keep it from being done


# Whose work is done when the answer begins. What is made of tokens after that takes turns of its own.
_DONE_WHEN_ANSWERED: Final = frozenset({Kind.SHORT, Kind.HEAVY, Kind.ERASURE})
# Asked for by machines that act on what they hear, or hear nothing of.
_EXEMPT: Final = frozenset({"/healthz", "/readyz", "/metrics"})
# A list, unlike the streams of the same name.
_LISTS: Final = frozenset({"/v1/events"})
_EXPORTS: Final = (b"application/jsonl", b"text/csv", b"application/vnd.apache.parquet")
_BULK_PARTS: Final = ("/evidence/", "/files/", "/archive.tar", "/resolve/", "/plots/", "/scores.")
_TEXTS: Final = re.compile(r"/v1/text-sets/[^/]*/texts|/v1/audits/[^/]*/scores/.*/tokens")
_READS: Final = frozenset({"GET", "HEAD"})
# What can be waited for: elsewhere a `wait` means nothing, and must not be a way around the queue.
_WAITED_FOR: Final = re.compile(
    r"/v1/(models|text-sets|audits|studies|edits|gates|model-versions)/[^/]+", re.ASCII
)
_WAITING_POSTS: Final = frozenset({"/v1/score", "/try"})
_BULK_POSTS: Final = frozenset({"/v1/text-sets"})
_BEARER: Final = re.compile(rb"bearer +\S", re.IGNORECASE)
# How many times as long who joins a queue may wait that does not stand yet.
_PATIENCE: Final = 2.0
# All the texts of a set go in one transaction.
_ERASED: Final = re.compile(r"/v1/text-sets/[^/]+")


def kind_of(scope: Scope) -> Kind | None:
    """The kind of a request; None of one that is always let in."""
    path, reads = scope["path"], scope["method"] in _READS
    if path in _EXEMPT:
        return None
    if not reads:
        return _kind_of_change(path, scope["method"])
    if _waits(path, scope["query_string"]):
        return Kind.WAITING
    if any(part in path for part in _BULK_PARTS) or (
        path.endswith(("/scores", "/trail")) and _asks_for_export(scope)
    ):
        return Kind.BULK
    return Kind.HEAVY if _TEXTS.fullmatch(path) else Kind.SHORT


def _kind_of_change(path: str, method: str) -> Kind:
    if path in _WAITING_POSTS:
        return Kind.WAITING
    if method == "DELETE" and _ERASED.fullmatch(path):
        return Kind.ERASURE
    return Kind.BULK if path in _BULK_POSTS else Kind.SHORT


def _waits(path: str, query: bytes) -> bool:
    if path.endswith("/events"):
        return path not in _LISTS
    return b"wait=" in query and _WAITED_FOR.fullmatch(path) is not None


def _asks_for_export(scope: Scope) -> bool:
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept").lower()
    return any(media_type in accepted for media_type in _EXPORTS)


def require_credential(scope: Scope) -> None:
    """Refuse a request to change something in which there is no key, before its body is waited for.

    A key that is there is looked up later.

    Raises:
        Unauthorized: it has no `Authorization`, or another than a bearer's.
    """
    if scope["method"] in _READS or not scope["path"].startswith("/v1/"):
        return
    if not any(name == b"authorization" and _BEARER.match(value) for name, value in scope["headers"]):
        raise Unauthorized


@dataclass(frozen=True)
class Room:
    """How many requests of a kind are in work at once, how many may wait, and for how many seconds.

    `seconds` are those of a queue that stands: that was not empty for so long.
    """

    at_once: int
    waiting: int = 0
    seconds: float = 0.0


class Lane:
    """The requests of a kind."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._queue: deque[asyncio.Future[None]] = deque()
        self._queued_since = 0.0
        self.in_work = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def require_room(self) -> None:
        """Refuse a request that would be too many.

        Raises:
            Overloaded: as many are in work and wait as may.
        """
        if self.in_work >= self._room.at_once and len(self._queue) >= self._room.waiting:
            raise Overloaded

    async def enter(self) -> None:
        """Take a place, waiting for one if need be; first come, first served. Whoever took one must leave.

        Raises:
            Overloaded: too many wait already, or none came free in time.
        """
        self.require_room()
        if self.in_work < self._room.at_once:
            self.in_work += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        seconds = self._patience()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.leave()  # it came in the same moment
            else:
                with suppress(ValueError):  # it was passed over already
                    self._queue.remove(turn)
            if isinstance(error, TimeoutError):
                raise Overloaded from None
            raise

    def _patience(self) -> float:
        """For how many seconds to wait who joins the queue now."""
        now = asyncio.get_running_loop().time()
        if not self._queue:
            self._queued_since = now
        stands = now - self._queued_since >= self._room.seconds
        return self._room.seconds * (1.0 if stands else _PATIENCE)

    def leave(self) -> None:
        """Give the place to whoever waits longest, or free it."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.in_work -= 1


class Admission:
    """ASGI middleware that lets requests in, each in the lane of its kind, or refuses them.

    Args:
        app: what serves those that are let in.
        rooms: of each kind.
        most_body_bytes: of a short request that changes something; it is read before the request takes a
            place, so that whoever sends slowly takes none. What is larger is left to the application to
            refuse. Nobody reads the body of one that only reads.
        count_refused: told the kind of each that is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        rooms: Mapping[Kind, Room],
        most_body_bytes: int,
        count_refused: Callable[[Kind], object],
    ) -> None:
        self._app = app
        self._most_body_bytes = most_body_bytes
        self._count_refused = count_refused
        self.lanes = {kind: Lane(room) for kind, room in rooms.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        kind = kind_of(scope) if scope["type"] == "http" else None
        if kind is None:
            await self._app(scope, receive, send)
            return
        lane = self.lanes[kind]
        try:
            require_credential(scope)
            lane.require_room()
            if kind is Kind.SHORT and scope["method"] not in _READS:
                receive = await self._received(receive)
            await lane.enter()
        except (Overloaded, Unauthorized) as error:
            if isinstance(error, Overloaded):
                self._count_refused(kind)
            response = await answer_failure(Request(scope), error)
            await response(scope, receive, send)
            return
        await self._serve(kind, lane, scope, receive, send)

    async def _serve(self, kind: Kind, lane: Lane, scope: Scope, receive: Receive, send: Send) -> None:
        holds = True

        def leave() -> None:
            nonlocal holds
            if holds:
                holds = False
                lane.leave()

        async def leaving_send(message: Message) -> None:
            # What is left may take as long as a slow reader likes.
            if kind in _DONE_WHEN_ANSWERED and message["type"] == "http.response.start":
                leave()
            await send(message)

        try:
            await self._app(scope, receive, leaving_send)
        finally:
            leave()

    async def _received(self, receive: Receive) -> Receive:
        """Wait for the body; what gives it out again, and then whatever comes."""
        messages: deque[Message] = deque()
        received = 0
        while True:
            message = await receive()
            messages.append(message)
            received += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if not more or received > self._most_body_bytes:
                break

        async def receive_again() -> Message:
            return messages.popleft() if messages else await receive()

        return receive_again
