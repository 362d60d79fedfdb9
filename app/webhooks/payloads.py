"""What is sent of an event: its type, its time, ids, status and outcome. No text, no name, no label."""

from datetime import UTC, datetime
from typing import Final

import orjson

from app.contracts.events import TEST_TYPE
from app.store.core.base import JSONObject
from app.store.core.identifiers import Prefix, format_id
from app.store.events import PREFIXES, Event
from app.store.webhooks import Webhook

# All that is sent of what an event knows. A label of a version, for one, is the client's own words.
_SENT: Final = ("status", "outcome", "policy", "judges", "model_line")


def event_body(event: Event) -> str:
    """The body that tells of an event, the same whoever sends it."""
    version = event.model_version_id
    data: JSONObject = {
        "event": format_id(Prefix.EVENT, event.id),
        "subject": {
            "kind": event.subject_kind,
            "id": format_id(PREFIXES[event.subject_kind], event.subject_id),
        },
        "model_version": None if version is None else format_id(Prefix.MODEL_VERSION, version),
        **{key: event.data[key] for key in _SENT if key in event.data},
    }
    return _body(event.type, event.created_at, data)


def verification_body(webhook: Webhook, at: datetime) -> str:
    """The body of a test."""
    return _body(TEST_TYPE, at, {"webhook": format_id(Prefix.WEBHOOK, webhook.id)})


def _body(told: str, at: datetime, data: JSONObject) -> str:
    said = {"type": told, "timestamp": at.astimezone(UTC), "data": data}
    return orjson.dumps(said, option=orjson.OPT_UTC_Z).decode()
