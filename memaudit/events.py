"""Server-sent events out of a stream of bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Event(Generic[T]):
    """A state of a resource as it was told.

    Attributes:
        id: names the state; following again with it as `last_event_id` does not tell it again.
        status: of the resource; of a version of a model line what happened, as `gate.failed`.
        data: the resource; of a version the event as `client.events` lists it.
    """

    id: str
    status: str
    data: T


@dataclass(frozen=True)
class Told:
    """An event as it came: its id, and its data as text."""

    id: str
    data: str


class EventStream:
    """Takes a stream of bytes apart into events (WHATWG HTML, 9.2.6)."""

    def __init__(self) -> None:
        self._begun = b""
        self._fields: dict[str, list[str]] = {}
        self._id = ""

    def feed(self, block: bytes) -> Iterator[Told]:
        """The events that a block of the stream ends."""
        # Only this ends a line: in a name there may be what `str.splitlines` takes for an end as well.
        *lines, self._begun = (self._begun + block).split(b"\n")
        for line in lines:
            if (event := self._take(line.removesuffix(b"\r").decode(errors="replace"))) is not None:
                yield event

    def _take(self, line: str) -> Told | None:
        """The event that a line ends; None while there is more to come."""
        if line:
            name, _, value = line.partition(":")
            self._fields.setdefault(name, []).append(value.removeprefix(" "))
            return None
        fields, self._fields = self._fields, {}
        self._id = fields.get("id", [self._id])[-1]
        if "data" not in fields:
            return None  # a comment, or how soon to come again
        return Told(self._id, "\n".join(fields["data"]))
