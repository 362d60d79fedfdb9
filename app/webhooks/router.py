"""`/v1/webhooks`."""

from asyncio import to_thread

from fastapi import APIRouter, Response

from app.http.dependencies import (
    AuditReader,
    AuditWriter,
    IdempotencyKey,
    PageCursor,
    PageLimit,
    SettingsDependency,
    StoreDependency,
)
from app.http.filters import METADATA_PARAMETER, MetadataQuery
from app.http.json_body import StrictJSONRoute
from app.http.pagination import Page
from app.http.problems import problem_responses
from app.store.webhook_deliveries import DeliveryState
from app.webhooks import service
from app.webhooks.schemas import (
    WebhookChange,
    WebhookCreate,
    WebhookDeliveryOut,
    WebhookMessage,
    WebhookOut,
    WebhookReplayOut,
    WebhookReplayRequest,
    WebhookRotate,
    WebhookWithSecret,
)
from app.webhooks.signing import new_secret

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=StrictJSONRoute)
# What receivers are sent, for the document of the API.
messages = APIRouter()


@messages.post(
    "event",
    status_code=204,
    responses={"default": {"description": "Sent again later; after 410 nothing more."}},
)
async def told_of_an_event(message: WebhookMessage) -> None:
    """Sent to a webhook, signed as Standard Webhooks has it: answer 2xx within 15 seconds."""


@router.post("", status_code=201, responses=problem_responses(409))
async def create_webhook(
    request: WebhookCreate,
    key: IdempotencyKey,
    principal: AuditWriter,
    store: StoreDependency,
    settings: SettingsDependency,
    response: Response,
) -> WebhookWithSecret:
    """Let a URL be told of events: what ended and how, from now on. The answer shows its secret this once."""
    secret = await to_thread(new_secret)
    webhook = await store.run(service.create, principal, key, request, secret, settings)
    response.headers["Location"] = f"/v1/webhooks/{webhook.id}"
    return webhook


@router.get("", openapi_extra=METADATA_PARAMETER)
async def list_webhooks(
    principal: AuditReader,
    store: StoreDependency,
    metadata: MetadataQuery,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[WebhookOut]:
    """List webhooks, newest first; with some metadata."""
    return await store.run(service.list_page, principal.tenant_id, metadata, limit, cursor)


@router.get("/{webhook_id}")
async def read_webhook(webhook_id: str, principal: AuditReader, store: StoreDependency) -> WebhookOut:
    """Read a webhook."""
    return await store.run(service.read, principal.tenant_id, webhook_id)


@router.patch("/{webhook_id}")
async def change_webhook(
    webhook_id: str,
    request: WebhookChange,
    principal: AuditWriter,
    store: StoreDependency,
    settings: SettingsDependency,
) -> WebhookOut:
    """Change a webhook; what is left out stays."""
    return await store.run(service.change, principal, webhook_id, request, settings)


@router.delete("/{webhook_id}", status_code=204)
async def delete_webhook(webhook_id: str, principal: AuditWriter, store: StoreDependency) -> None:
    """Delete a webhook, and with it what waits to be sent to it."""
    await store.run(service.delete, principal, webhook_id)


@router.post("/{webhook_id}/rotate-secret", responses=problem_responses(409))
async def rotate_webhook_secret(
    webhook_id: str, request: WebhookRotate, principal: AuditWriter, store: StoreDependency
) -> WebhookWithSecret:
    """Give a webhook another secret. For a while those from before sign too.

    Each message has a signature of each secret then, of which a receiver knows one.
    """
    secret = await to_thread(new_secret)
    return await store.run(service.rotate, principal, webhook_id, request, secret)


@router.post("/{webhook_id}/test", status_code=202, responses=problem_responses(409))
async def test_webhook(
    webhook_id: str,
    principal: AuditWriter,
    store: StoreDependency,
    settings: SettingsDependency,
    response: Response,
) -> WebhookDeliveryOut:
    """Send a `webhook.test`, whatever types of events the webhook is told of. Up to ten of them may wait."""
    delivery = await store.run(service.test, principal, webhook_id, settings)
    response.headers["Location"] = f"/v1/webhooks/{webhook_id}/deliveries/{delivery.id}"
    return delivery


@router.get("/{webhook_id}/deliveries")
async def list_webhook_deliveries(
    webhook_id: str,
    principal: AuditReader,
    store: StoreDependency,
    status: DeliveryState | None = None,
    limit: PageLimit = 20,
    cursor: PageCursor = None,
) -> Page[WebhookDeliveryOut]:
    """List what was sent to a webhook or will be, newest first; of a status.

    What tells of edits and of gates on edits is in it if the key has the scope `edit:read`.
    """
    return await store.run(service.deliveries_page, principal, webhook_id, status, limit, cursor)


@router.get("/{webhook_id}/deliveries/{delivery_id}")
async def read_webhook_delivery(
    webhook_id: str, delivery_id: str, principal: AuditReader, store: StoreDependency
) -> WebhookDeliveryOut:
    """Read a delivery."""
    return await store.run(service.read_delivery, principal, webhook_id, delivery_id)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/replay", status_code=202, responses=problem_responses(409)
)
async def replay_webhook_delivery(
    webhook_id: str,
    delivery_id: str,
    principal: AuditWriter,
    store: StoreDependency,
    settings: SettingsDependency,
    response: Response,
) -> WebhookDeliveryOut:
    """Send a delivery again, with the same id, whatever became of it."""
    delivery = await store.run(service.replay_one, principal, webhook_id, delivery_id, settings)
    response.headers["Location"] = f"/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"
    return delivery


@router.post("/{webhook_id}/replay", status_code=202, responses=problem_responses(409))
async def replay_dead_deliveries(
    webhook_id: str,
    request: WebhookReplayRequest,
    principal: AuditWriter,
    store: StoreDependency,
    settings: SettingsDependency,
) -> WebhookReplayOut:
    """Send all dead deliveries of events since a time again, up to a thousand at once."""
    return await store.run(service.replay_dead, principal, webhook_id, request, settings)
