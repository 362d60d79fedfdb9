"""Events as they are answered and sent."""

from datetime import datetime
from typing import Literal, Self

from pydantic import JsonValue

from app.contracts.base import Described
from app.store.core.identifiers import Prefix, format_id
from app.store.events import PREFIXES, Event


class EventSubject(Described):
    """What an event is about."""

    kind: str
    """`audit`, `study`, `edit`, `gate`, `model_version`, `language_model` or `text_set`."""
    id: str


class EventOut(Described):
    """Something that happened. It never changes, and holds no text."""

    object: Literal["event"] = "event"
    id: str
    type: str
    """What happened, as `gate.failed` or `version.succeeded`."""
    subject: EventSubject
    model_version: str | None
    """The version of a model line that it is news of; null if it is of none."""
    data: dict[str, JsonValue]
    """`status` of the subject, and what else a reader acts on: the `outcome` of gates and versions, ids, the
    `label`."""
    created_at: datetime

    @classmethod
    def of(cls, row: Event) -> Self:
        """The event of a row."""
        version = row.model_version_id
        return cls(
            id=format_id(Prefix.EVENT, row.id),
            type=row.type,
            subject=EventSubject(
                kind=row.subject_kind, id=format_id(PREFIXES[row.subject_kind], row.subject_id)
            ),
            model_version=None if version is None else format_id(Prefix.MODEL_VERSION, version),
            data=row.data,
            created_at=row.created_at,
        )
