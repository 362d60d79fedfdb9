"""From events to deliveries, and from tries to what comes next."""

import random
from datetime import timedelta
from typing import Final

from sqlalchemy.orm import Session

from app.store.core.identifiers import new_id
from app.store.webhook_attempts import OPEN_AFTER, Claim
from app.store.webhook_deliveries import add_deliveries, take_events
from app.store.webhooks import subscribers
from app.webhooks.payloads import event_body
from app.webhooks.posting import Answer

EVENTS_AT_ONCE: Final = 200
# The longest pause of a delivery, and of a receiver, of which one try a minute tells that it is back.
LONGEST_SECONDS: Final = 1800.0
LONGEST_WEBHOOK_SECONDS: Final = 60.0
_MOST_DOUBLINGS: Final = 20


def fan_out(session: Session, *, give_up_after: timedelta) -> int:
    """Make deliveries of the next events for all webhooks that want them, in one transaction.

    Returns:
        How many events that were.
    """
    events = take_events(session, EVENTS_AT_ONCE)
    webhooks = subscribers(session, {event.tenant_id for event in events})
    rows = [
        {
            "id": new_id(),
            "endpoint_id": webhook.id,
            "event_id": event.id,
            "type": event.type,
            "body": event_body(event),
            "created_at": event.created_at,
        }
        for event in events
        for webhook in webhooks
        if webhook.tenant_id == event.tenant_id
        and (webhook.event_types is None or event.type in webhook.event_types)
        and (webhook.includes_edits or not event.is_of_edit)
    ]
    add_deliveries(session, rows, give_up_after=give_up_after)
    return len(events)


def pause_of_delivery(claim: Claim, answer: Answer, first_seconds: float) -> float:
    """Seconds until a delivery is tried again: twice as many each time, or what the receiver asks for."""
    asked = min(answer.retry_after or 0.0, LONGEST_SECONDS)
    return max(_backoff(claim.failures + 1, first_seconds, LONGEST_SECONDS), asked)


def pause_of_webhook(claim: Claim, answer: Answer, first_seconds: float) -> float:
    """Seconds for which nothing is sent to a receiver that fails time and again or asks for it, or 0."""
    asked = min(answer.retry_after or 0.0, LONGEST_SECONDS)
    beyond = claim.webhook_failures + 1 - OPEN_AFTER
    if beyond < 0:
        return asked
    return max(_backoff(beyond + 1, first_seconds, LONGEST_WEBHOOK_SECONDS), asked)


def _backoff(failures: int, first_seconds: float, longest: float) -> float:
    """Exponential, with jitter over its second half: many that failed at once do not come back at once."""
    seconds = min(longest, first_seconds * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
