"""Server-sent events, line by line."""

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Event(Generic[T]):
    """A state of a resource as it was told.

    Attributes:
        id: names the state; following again with it as `last_event_id` does not tell it again.
        status: of the resource.
        data: the resource.
    """

    id: str
    status: str
    data: T


class EventLines:
    """Puts the lines of a stream together to events (WHATWG HTML, 9.2.6)."""

    def __init__(self) -> None:
        self._fields: dict[str, list[str]] = {}
        self._id = ""

    def feed(self, line: str) -> Event[str] | None:
        """The event that a line ends; None while there is more to come."""
        if line:
            name, _, value = line.partition(":")
            self._fields.setdefault(name, []).append(value.removeprefix(" "))
            return None
        fields, self._fields = self._fields, {}
        self._id = fields.get("id", [self._id])[-1]
        if "data" not in fields:
            return None  # a comment, or how soon to come again
        return Event(self._id, fields.get("event", [""])[-1], "\n".join(fields["data"]))
