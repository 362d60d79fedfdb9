"""What resources have in common: reading and waiting; and operations: following, cancelling, evidence."""

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar
from urllib.parse import quote

from memaudit.answers import read_as
from memaudit.asynchronous.sender import Sender
from memaudit.calls import Call
from memaudit.errors import ServiceUnreachable, WaitTimedOut, WorkFailed
from memaudit.events import Event, EventLines
from memaudit.types import EvidenceFormat, Work

W = TypeVar("W", bound=Work)

_UNENDED: Final = frozenset({"queued", "running", "importing"})
_GOOD: Final = frozenset({"succeeded", "ready"})
# How long one request waits, where nobody looks on, and where somebody does.
_LONG_POLL_SECONDS: Final = 20.0
_SHORT_POLL_SECONDS: Final = 1.0


class Resources(Generic[W]):
    """Resources of one kind, each of which is prepared or worked on for a while after it was asked for."""

    def __init__(self, sender: Sender, path: str, kind: type[W]) -> None:
        self._sender = sender
        self._path = path
        self._kind = kind

    async def get(self, id: str) -> W:
        """One of them.

        Raises:
            NotFound: there is none of this id.
        """
        return await self._sender.read(self._kind, Call("GET", self._path_of(id)))

    async def wait(
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
        while True:
            seconds = max(0.0, min(at_once, deadline - time.monotonic()))
            call = Call("GET", self._path_of(id), {"wait": seconds})
            work = await self._sender.read(self._kind, call)
            if on_progress is not None:
                on_progress(work)
            if work.status not in _UNENDED:
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

    async def cancel(self, id: str) -> W:
        """End it at once.

        Raises:
            Conflict: it has ended.
        """
        return await self._sender.read(self._kind, Call("POST", self._path_of(id, "cancel")))

    async def events(
        self,
        id: str,
        *,
        last_event_id: str | None = None,
    ) -> AsyncIterator[Event[W]]:
        """Each change of it as it happens, up to and with its end. A broken connection is taken up again.

        Args:
            id: of the resource.
            last_event_id: of an event that was seen; that state is not told again.

        Raises:
            ServiceUnreachable: for as long as the client's patience lasted.
        """
        patience = self._sender.patience()
        while True:
            seen = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
            call = Call("GET", self._path_of(id, "events"), headers=seen)
            told = EventLines()
            try:
                async with self._sender.stream(call) as response:
                    async for line in response.aiter_lines():
                        if (event := told.feed(line)) is not None:
                            patience.renew()
                            last_event_id = event.id
                            work = read_as(self._kind, json.loads(event.data))
                            yield Event(event.id, event.status, work)
            except ServiceUnreachable as error:
                await patience.pause(call, error)
            else:
                return  # a stream that is not cut ends with the work

    def evidence_formats(self, id: str) -> AsyncIterator[EvidenceFormat]:
        """The documents that there are of it."""
        return self._sender.pages(EvidenceFormat, self._path_of(id, "evidence"), {})

    async def evidence(
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
        response = await self._sender.send(self._evidence_call(id, format, texts))
        return response.content

    async def save_evidence(
        self,
        id: str,
        format: str,
        target: str | Path,
        *,
        texts: Literal["redacted", "full"] = "redacted",
    ) -> None:
        """Write what `evidence` gives to a file."""
        await self._sender.save(self._evidence_call(id, format, texts), Path(target))

    def _evidence_call(self, id: str, format: str, texts: str) -> Call:
        return Call("GET", self._path_of(id, "evidence", format), {"texts": texts})
