"""Webhooks and their deliveries as they are sent and answered, and what a receiver is sent."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.contracts.base import CleanStr, Contract, Described, Metadata
from app.contracts.events import EVENT_TYPES, EventType
from app.contracts.times import Time
from app.store.core.identifiers import Prefix, format_id
from app.store.webhook_deliveries import WebhookDelivery
from app.store.webhooks import Webhook


def _once_each(types: list[EventType]) -> list[EventType]:
    if len(set(types)) < len(types):
        raise PydanticCustomError("event_type_repeated", "Name each type of event once")
    return types


URL: TypeAlias = Annotated[
    CleanStr,
    Field(
        min_length=1,
        max_length=2000,
        description="`https://…`, on port 443 of the public internet unless the operator allows more. "
        "No user name, no fragment; redirects are not followed.",
    ),
]
EventTypes: TypeAlias = Annotated[
    list[EventType],
    Field(min_length=1, max_length=len(EVENT_TYPES)),
    AfterValidator(_once_each),
    Field(description="The types of events to be told of; null for all, those of later releases too."),
]
Description: TypeAlias = Annotated[CleanStr, Field(max_length=2000)]


class WebhookCreate(Contract):
    """A receiver of events."""

    url: URL
    event_types: EventTypes | None = None
    description: Description | None = None
    enabled: bool = True
    metadata: Metadata = {}


class WebhookChange(Contract):
    """What is to be changed of a webhook; what is left out stays. What waits goes to the new URL.

    One that is enabled again is told of the events from then on, and sent what still waits for it.
    """

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    url: URL | None = None
    event_types: EventTypes | None = None
    description: Description | None = None
    enabled: bool | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("nothing_to_change", "Name something to change")
        for name in ("url", "enabled", "metadata"):
            if name in self.model_fields_set and getattr(self, name) is None:
                raise PydanticCustomError("null_not_allowed", "This can be changed and not removed")
        return self


class WebhookRotate(Contract):
    """How a webhook gets another secret."""

    overlap_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=7 * 86_400,
            description="For how long the secrets from before sign too; 0 if one has become known.",
        ),
    ] = 86_400


class WebhookReplayRequest(Contract):
    """Which deliveries are to be sent again: the dead ones."""

    since: Annotated[
        Time, Field(description="Of events at this time or later: RFC 3339, with the offset from UTC.")
    ]


class WebhookOut(Described):
    """A receiver of events, each of which it is sent once or, after failures, more often with the same id."""

    object: Literal["webhook"] = "webhook"
    id: str
    url: str
    event_types: list[str] | None
    """The types of events that it is told of; null for all."""
    includes_edits: bool
    """Whether it is told of edits and of gates on edits: the key that made it, or that named its types last,
    had the scope `edit:read`."""
    description: str | None
    enabled: bool
    disabled_reason: str | None
    """`gone` if it was disabled because the receiver answered 410; null otherwise."""
    metadata: dict[str, JsonValue]
    created_at: datetime

    @classmethod
    def of(cls, row: Webhook, **more: Any) -> Self:
        """The resource for a row."""
        return cls(
            id=format_id(Prefix.WEBHOOK, row.id),
            url=row.url,
            event_types=row.event_types,
            includes_edits=row.includes_edits,
            description=row.description,
            enabled=row.enabled,
            disabled_reason=row.disabled_reason,
            metadata=row.metadata_,
            created_at=row.created_at,
            **more,
        )


class WebhookWithSecret(WebhookOut):
    """A webhook, and the secret that signs what it is sent from now on."""

    secret: str | None
    """`whsec_…`, shown this once. Null where an Idempotency-Key gives its webhook again: rotate the secret if
    the first answer was lost."""


class WebhookDeliveryOut(Described):
    """A message to a webhook. Of answers only their status is kept."""

    object: Literal["webhook_delivery"] = "webhook_delivery"
    id: str
    """The `webhook-id` header of every try."""
    webhook: str
    event: str | None
    """The event that it tells of; null for a test."""
    type: str
    status: str
    """`pending`, `delivered` or `dead`."""
    attempts: int
    """How often it was sent, or tried to."""
    last_status: int | None
    """The HTTP status of the last answer; null if there was none."""
    last_error: str | None
    """What went wrong the last time: `refused` (an answer other than 2xx), `no_allowed_address` (the host has
    none that anything may be sent to, or does not exist), `not_connected`, `tls_failed`, `timed_out`,
    `broken_off`; null if nothing did."""
    last_attempt_at: datetime | None
    next_attempt_at: datetime | None
    """When it is due; while a try is under way, when another one would be. Null once it has ended."""
    finished_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, row: WebhookDelivery) -> Self:
        """The resource for a row."""
        return cls(
            id=format_id(Prefix.DELIVERY, row.id),
            webhook=format_id(Prefix.WEBHOOK, row.endpoint_id),
            event=None if row.event_id is None else format_id(Prefix.EVENT, row.event_id),
            type=row.type,
            status=row.state,
            attempts=row.attempts,
            last_status=row.last_status,
            last_error=row.last_error,
            last_attempt_at=row.last_attempt_at,
            next_attempt_at=row.next_attempt_at,
            finished_at=row.finished_at,
            created_at=row.created_at,
        )


class WebhookReplayOut(Described):
    """How much is sent again."""

    object: Literal["webhook_replay"] = "webhook_replay"
    replayed: int
    """Deliveries that are due now."""
    has_more: bool
    """Whether there may be more dead ones: ask once more."""


class WebhookMessageSubject(Described):
    """What an event is about."""

    kind: str
    """`audit`, `study`, `edit`, `gate`, `model_version`, `language_model` or `text_set`."""
    id: str


class WebhookMessageData(Described):
    """Ids, status and outcome; whoever may read more asks for it by the ids."""

    event: str
    """Its id in `GET /v1/events`."""
    subject: WebhookMessageSubject
    model_version: str | None
    """The version of a model line that it is news of; null if it is of none."""
    status: str
    outcome: str | None = None
    """Of gates and versions."""
    policy: str | None = None
    """Of gates: the policy, and in `judges` the audit, study or edit."""
    judges: str | None = None
    model_line: str | None = None
    """Of versions."""


class WebhookMessage(Described):
    """What a webhook is sent. The data of a `webhook.test` is the webhook's id."""

    type: str
    timestamp: datetime
    """When it happened."""
    data: WebhookMessageData
