"""What resources have in common: reading and waiting; and operations: following, cancelling, evidence."""

import json
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar
from urllib.parse import quote

from memaudit.answers import read_as
from memaudit.base import Answer
from memaudit.calls import Call
from memaudit.errors import MemauditError, WaitTimedOut, WorkFailed
from memaudit.events import Event, EventStream
from memaudit.synchronous.sender import Sender
from memaudit.types import EvidenceFormat, Work

W = TypeVar("W", bound=Work)
A = TypeVar("A", bound=Answer)

_GOOD: Final = frozenset({"succeeded", "ready"})
# A newer service may know more ways of not having ended.
_ENDED: Final = _GOOD | {"failed", "cancelled", "rejected"}
# How long one request waits, where nobody looks on, and where somebody does.
_LONG_POLL_SECONDS: Final = 20.0
_SHORT_POLL_SECONDS: Final = 1.0


def follow(
    sender: Sender,
    path: str,
    kind: type[A],
    status_of: Callable[[A], str],
    last_event_id: str | None,
    ends: Collection[str],
) -> Iterator[Event[A]]:
    """The events of a stream, each as it happens. A broken connection is taken up again.

    Args:
        sender: of the client.
        path: of the stream.
        kind: of what the events carry.
        status_of: what has become of what one carries.
        last_event_id: of an event that was seen; it is not told again.
        ends: what becomes of a stream's subject last, so that nothing more is told.

    Raises:
        ServiceUnreachable: for as long as the client's patience lasted.
    """
    patience = sender.patience()
    while True:
        seen = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        call = Call("GET", path, headers=seen)
        stream, status = EventStream(), None
        try:
            with sender.stream(call) as response:
                for block in response.iter_bytes():
                    for event in stream.feed(block):
                        patience.renew()
                        told = read_as(kind, json.loads(event.data))
                        last_event_id, status = event.id, status_of(told)
                        yield Event(event.id, status, told)
        except MemauditError as error:
            patience.pause(call, error)
        else:
            # Whoever stands before the service may end it early; with nothing to tell, the end was seen.
            if status is None or status in ends:
                return


class Resources(Generic[W]):
    """Resources of one kind, each of which is prepared or worked on for a while after it was asked for."""

    def __init__(self, sender: Sender, path: str, kind: type[W]) -> None:
        self._sender = sender
        self._path = path
        self._kind = kind

    def get(self, id: str) -> W:
        """One of them.

        Raises:
            NotFound: there is none of this id.
        """
        return self._sender.read(self._kind, Call("GET", self._path_of(id)))

    def wait(
        self,
        id: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the service waits
        on_progress: Callable[[W], object] | None = None,
        must_succeed: bool = False,
    ) -> W:
        """One of them once it has ended, whichever way; restarts of the service are waited out.

        Args:
            id: of the resource.
            timeout: in seconds; None to wait for good.
            on_progress: called with the resource about once a second, and at its end.
            must_succeed: whether another end than success is an error.

        Raises:
            WaitTimedOut: it has not ended in time. It goes on.
            WorkFailed: it failed, or was cancelled or rejected, and `must_succeed`.
        """
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        at_once = _LONG_POLL_SECONDS if on_progress is None else _SHORT_POLL_SECONDS
        at_once = min(at_once, self._sender.connection.timeout / 2)  # it is silent meanwhile
        while True:
            seconds = max(0.0, min(at_once, deadline - time.monotonic()))
            call = Call("GET", self._path_of(id), {"wait": seconds})
            work = self._sender.read(self._kind, call)
            if on_progress is not None:
                on_progress(work)
            if work.status in _ENDED:
                break
            if time.monotonic() >= deadline:
                raise WaitTimedOut(f"{id} is {work.status} after {timeout:g} s", work)
        if must_succeed and work.status not in _GOOD:
            why = f": {work.error.detail}" if work.error else ""
            raise WorkFailed(f"{id} {work.status}{why}", work)
        return work

    def _path_of(self, id: str, *parts: str) -> str:
        return "/".join([self._path, *(quote(part, safe="") for part in (id, *parts))])


class Operations(Resources[W]):
    """Long work: audits, studies, edits, gates."""

    def cancel(self, id: str) -> W:
        """End it at once.

        Raises:
            Conflict: it has ended.
        """
        return self._sender.read(self._kind, Call("POST", self._path_of(id, "cancel")))

    def events(
        self,
        id: str,
        *,
        last_event_id: str | None = None,
    ) -> Iterator[Event[W]]:
        """Each change of it as it happens, up to and with its end. A broken connection is taken up again.

        Args:
            id: of the resource.
            last_event_id: of an event that was seen; that state is not told again.

        Raises:
            ServiceUnreachable: for as long as the client's patience lasted.
        """
        path = self._path_of(id, "events")
        return follow(self._sender, path, self._kind, lambda work: work.status, last_event_id, _ENDED)

    def evidence_formats(self, id: str) -> Iterator[EvidenceFormat]:
        """The documents that there are of it."""
        return self._sender.pages(EvidenceFormat, self._path_of(id, "evidence"), {})

    def evidence(
        self,
        id: str,
        format: str,
        *,
        texts: Literal["redacted", "full"] = "redacted",
    ) -> bytes:
        """A document that proves what was found.

        Args:
            id: of a resource that has succeeded.
            format: `in-toto`, `html`, …
            texts: whether submitted texts are in it; `full` needs the scope `audit:evidence`.

        Raises:
            NotFound: there is no such format.
            Conflict: it has not succeeded.
            Forbidden: the key may not read the texts.
        """
        response = self._sender.send(self._evidence_call(id, format, texts))
        return response.content

    def save_evidence(
        self,
        id: str,
        format: str,
        target: str | Path,
        *,
        texts: Literal["redacted", "full"] = "redacted",
    ) -> None:
        """Write what `evidence` gives to a file."""
        self._sender.save(self._evidence_call(id, format, texts), Path(target))

    def _evidence_call(self, id: str, format: str, texts: str) -> Call:
        return Call("GET", self._path_of(id, "evidence", format), {"texts": texts})
