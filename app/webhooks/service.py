"""Making, changing and testing webhooks; looking at their deliveries and sending these again."""

from collections.abc import Collection
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy import func as sql
from sqlalchemy.orm import Session

from app.contracts.events import TEST_TYPE
from app.errors import FieldError, InsufficientScope, ValidationFailed, WebhookDisabled
from app.http.dependencies import EDIT_READ, has_scope
from app.http.idempotency import answer_once
from app.http.pagination import Page, id_cursor, page_by_id
from app.settings import Settings
from app.store.core.identifiers import Prefix, format_id, new_id
from app.store.tenants import Principal
from app.store.trail import Action, Fact, record_request
from app.store.webhook_deliveries import (
    MOST_REPLAYED,
    DeliveryState,
    WebhookDelivery,
    add_deliveries,
    get_delivery,
    is_dead_since,
    list_deliveries,
    make_due,
    replay,
    require_room_for_test,
)
from app.store.webhooks import Webhook, add_webhook, get_webhook, list_webhooks, rotate_secret
from app.webhooks.destinations import Destinations, URLRefused
from app.webhooks.payloads import verification_body
from app.webhooks.schemas import (
    WebhookChange,
    WebhookCreate,
    WebhookDeliveryOut,
    WebhookOut,
    WebhookReplayOut,
    WebhookReplayRequest,
    WebhookRotate,
    WebhookWithSecret,
)
from app.webhooks.signing import Secret

_REFUSED: Final = (
    "Nothing is sent to this URL: give one with https, on port 443 of the public internet, or one that the "
    "operator has allowed (MEMAUDIT_WEBHOOK_NETWORKS)."
)
_FIELDS: Final = ("url", "event_types", "description", "enabled")


def create(
    session: Session,
    principal: Principal,
    key: str,
    request: WebhookCreate,
    secret: Secret,
    settings: Settings,
) -> WebhookWithSecret:
    """Make a webhook with a secret. The secret is in the first answer only, which is not kept with the key.

    Raises:
        ValidationFailed: nothing is sent to this URL.
        InsufficientScope: it is to be told of edits, and the key may not read these.
        TooManyWebhooks: the tenant has as many as one may have.
        IdempotencyInFlight, IdempotencyMismatch: see `answer_once`.
    """
    _require_allowed(request.url, settings)
    includes_edits = _may_include_edits(principal, request.event_types)
    made: list[Webhook] = []

    def create() -> WebhookOut:
        webhook = Webhook(
            id=new_id(),
            tenant_id=principal.tenant_id,
            url=request.url,
            event_types=None if request.event_types is None else list(request.event_types),
            includes_edits=includes_edits,
            description=request.description,
            enabled=request.enabled,
            metadata_=dict(request.metadata),
        )
        add_webhook(session, webhook, secret.sealed)
        made.append(webhook)
        _record(session, principal, Action.WEBHOOK_CREATED, webhook)
        return WebhookOut.of(webhook)

    answer = answer_once(session, principal, key, "webhook", request, WebhookOut, create)
    return WebhookWithSecret(**answer.model_dump(), secret=secret.shown if made else None)


def _record(
    session: Session,
    principal: Principal,
    action: Action,
    webhook: Webhook,
    facts: dict[str, Fact] | None = None,
) -> None:
    record_request(session, principal, action, format_id(Prefix.WEBHOOK, webhook.id), facts)


def _may_include_edits(principal: Principal, event_types: Collection[str] | None) -> bool:
    """Whether a webhook is told of edits and of gates on edits, by who says what it is told of.

    Raises:
        InsufficientScope: edits are named, and the key may not read them.
    """
    may = has_scope(principal, EDIT_READ)
    if not may and any(each.startswith("edit.") for each in event_types or ()):
        raise InsufficientScope(f"To be told of edits takes an API key with the scope {EDIT_READ} too.")
    return may


def _require_allowed(url: str, settings: Settings) -> None:
    try:
        Destinations(settings.webhook_networks).read(url)
    except URLRefused as refused:
        raise ValidationFailed(_REFUSED, [FieldError("/url", refused.code)]) from None


def list_page(
    session: Session, tenant_id: UUID, metadata: dict[str, str], limit: int, cursor: str | None
) -> Page[WebhookOut]:
    """A tenant's webhooks, newest first."""
    rows = list_webhooks(session, tenant_id, id_cursor(cursor), limit + 1, metadata=metadata)
    return page_by_id(rows, limit, WebhookOut.of)


def read(session: Session, tenant_id: UUID, webhook_id: str) -> WebhookOut:
    """A webhook.

    Raises:
        NotFound: no such webhook for this tenant.
    """
    return WebhookOut.of(get_webhook(session, tenant_id, webhook_id))


def change(
    session: Session, principal: Principal, webhook_id: str, request: WebhookChange, settings: Settings
) -> WebhookOut:
    """Change a webhook. With another URL, or enabled again, it is as good as new.

    Raises:
        NotFound: no such webhook for this tenant.
        InsufficientScope: it is told of edits, or is to be, and the key may not read these.
        ValidationFailed: nothing is sent to this URL.
    """
    webhook = get_webhook(session, principal.tenant_id, webhook_id, lock=True)
    given = request.model_fields_set
    if webhook.includes_edits and given & {"url", "event_types"} and not has_scope(principal, EDIT_READ):
        raise InsufficientScope(
            "This webhook is told of edits: to say where and of what takes an API key with the scope "
            f"{EDIT_READ} too."
        )
    if "event_types" in given:
        webhook.includes_edits = _may_include_edits(principal, request.event_types)
    if request.url is not None:
        _require_allowed(request.url, settings)
    for name in given.intersection(_FIELDS):
        setattr(webhook, name, getattr(request, name))
    if request.metadata is not None:
        webhook.metadata_ = dict(request.metadata)
    if given & {"url", "enabled"}:
        webhook.failures, webhook.retry_at = 0, None
        make_due(session, webhook)
    if "enabled" in given:
        webhook.disabled_reason = None
    session.flush()
    facts: dict[str, Fact] = {"changed": sorted(given), "enabled": webhook.enabled}
    _record(session, principal, Action.WEBHOOK_CHANGED, webhook, facts)
    return WebhookOut.of(webhook)


def delete(session: Session, principal: Principal, webhook_id: str) -> None:
    """Delete a webhook with its secrets and deliveries.

    Raises:
        NotFound: no such webhook for this tenant.
    """
    webhook = get_webhook(session, principal.tenant_id, webhook_id, lock=True)
    session.delete(webhook)
    session.flush()
    _record(session, principal, Action.WEBHOOK_DELETED, webhook)


def rotate(
    session: Session, principal: Principal, webhook_id: str, request: WebhookRotate, secret: Secret
) -> WebhookWithSecret:
    """Give a webhook another secret; those that it had sign beside it for a while.

    Raises:
        NotFound: no such webhook for this tenant.
        TooManySecrets: as many as one may have sign already.
    """
    webhook = get_webhook(session, principal.tenant_id, webhook_id, lock=True)
    rotate_secret(session, webhook, secret.sealed, overlap=timedelta(seconds=request.overlap_seconds))
    facts: dict[str, Fact] = {"overlap_seconds": request.overlap_seconds}
    _record(session, principal, Action.WEBHOOK_ROTATED, webhook, facts)
    return WebhookWithSecret.of(webhook, secret=secret.shown)


def test(session: Session, principal: Principal, webhook_id: str, settings: Settings) -> WebhookDeliveryOut:
    """Send a webhook a message that tells of nothing.

    Raises:
        NotFound: no such webhook for this tenant.
        WebhookDisabled: nothing is sent to it.
        TooManyTests: as many as may have not been delivered.
    """
    webhook = get_webhook(session, principal.tenant_id, webhook_id, lock=True)
    _require_enabled(webhook)
    require_room_for_test(session, webhook)
    delivery_id, now = new_id(), session.execute(select(sql.clock_timestamp())).scalar_one()
    row = {
        "id": delivery_id,
        "endpoint_id": webhook.id,
        "event_id": None,
        "type": TEST_TYPE,
        "body": verification_body(webhook, now),
        "created_at": now,
    }
    add_deliveries(session, [row], give_up_after=timedelta(days=settings.webhook_retry_days))
    answer = WebhookDeliveryOut.of(session.get_one(WebhookDelivery, delivery_id))
    _record(session, principal, Action.WEBHOOK_TESTED, webhook, {"delivery": answer.id})
    return answer


def deliveries_page(
    session: Session,
    principal: Principal,
    webhook_id: str,
    state: DeliveryState | None,
    limit: int,
    cursor: str | None,
) -> Page[WebhookDeliveryOut]:
    """The deliveries of a webhook, newest first.

    Those of edits and of gates on edits are left out for a key that may not read edits.

    Raises:
        NotFound: no such webhook for this tenant.
    """
    webhook = get_webhook(session, principal.tenant_id, webhook_id)
    includes_edits = has_scope(principal, EDIT_READ)
    rows = list_deliveries(
        session, webhook, id_cursor(cursor), limit + 1, state=state, includes_edits=includes_edits
    )
    return page_by_id(rows, limit, WebhookDeliveryOut.of)


def read_delivery(
    session: Session, principal: Principal, webhook_id: str, delivery_id: str
) -> WebhookDeliveryOut:
    """A delivery.

    Raises:
        NotFound: no such webhook for this tenant, or no delivery of it that the key may see.
    """
    webhook = get_webhook(session, principal.tenant_id, webhook_id)
    return WebhookDeliveryOut.of(_get_delivery(session, principal, webhook, delivery_id))


def _get_delivery(
    session: Session, principal: Principal, webhook: Webhook, delivery_id: str
) -> WebhookDelivery:
    return get_delivery(session, webhook, delivery_id, includes_edits=has_scope(principal, EDIT_READ))


def replay_one(
    session: Session, principal: Principal, webhook_id: str, delivery_id: str, settings: Settings
) -> WebhookDeliveryOut:
    """Send a delivery again, whatever became of it.

    Raises:
        NotFound: no such webhook for this tenant, or no delivery of it that the key may see.
        WebhookDisabled: nothing is sent to it.
    """
    webhook = get_webhook(session, principal.tenant_id, webhook_id)
    row = _get_delivery(session, principal, webhook, delivery_id)
    _require_enabled(webhook)
    _replay(session, WebhookDelivery.id == row.id, settings)
    session.refresh(row)
    answer = WebhookDeliveryOut.of(row)
    _record(session, principal, Action.WEBHOOK_REPLAYED, webhook, {"delivery": answer.id})
    return answer


def replay_dead(
    session: Session, principal: Principal, webhook_id: str, request: WebhookReplayRequest, settings: Settings
) -> WebhookReplayOut:
    """Send all dead deliveries of events since a time again, so many at once.

    Raises:
        NotFound: no such webhook for this tenant.
        WebhookDisabled: nothing is sent to it.
    """
    webhook = get_webhook(session, principal.tenant_id, webhook_id)
    _require_enabled(webhook)
    replayed = _replay(session, is_dead_since(webhook, request.since), settings)
    _record(session, principal, Action.WEBHOOK_REPLAYED, webhook, {"deliveries": replayed})
    return WebhookReplayOut(replayed=replayed, has_more=replayed == MOST_REPLAYED)


def _replay(session: Session, wanted: ColumnElement[bool], settings: Settings) -> int:
    return replay(session, wanted, give_up_after=timedelta(days=settings.webhook_retry_days))


def _require_enabled(webhook: Webhook) -> None:
    if not webhook.enabled:
        raise WebhookDisabled("The webhook is disabled; enable it first.")
