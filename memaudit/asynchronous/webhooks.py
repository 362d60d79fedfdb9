"""`client.webhooks`."""

from collections.abc import AsyncIterator
from typing import Final, Unpack
from urllib.parse import quote

from memaudit.asynchronous.sender import Sender
from memaudit.calls import Call, work_headers
from memaudit.requests import ListWebhookDeliveries, ListWebhooks, WebhookChange, WebhookCreate, WebhookRotate
from memaudit.types import Webhook, WebhookDelivery, WebhookReplay, WebhookWithSecret

_PATH: Final = "/v1/webhooks"


class Webhooks:
    """Receivers that are told of events: what ended and how."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def create(
        self, *, idempotency_key: str | None = None, **request: Unpack[WebhookCreate]
    ) -> WebhookWithSecret:
        """Let a URL be told of events. `secret` of the answer is shown this once.

        Args:
            idempotency_key: the same key and request give the same webhook, the second time without its
                secret; a fresh one unless given.
            request: as of `POST /v1/webhooks`.

        Raises:
            Invalid: nothing is sent to this URL.
        """
        call = Call("POST", _PATH, json=request, headers=work_headers(idempotency_key))
        return await self._sender.read(WebhookWithSecret, call)

    async def get(self, id: str) -> Webhook:
        """A webhook."""
        return await self._sender.read(Webhook, Call("GET", _path_of(id)))

    def list(self, *, page_size: int = 100, **filters: Unpack[ListWebhooks]) -> AsyncIterator[Webhook]:
        """All webhooks, newest first, page by page as they are reached."""
        return self._sender.pages(Webhook, _PATH, filters, page_size)

    async def change(self, id: str, **request: Unpack[WebhookChange]) -> Webhook:
        """Change a webhook; what is left out stays."""
        return await self._sender.read(Webhook, Call("PATCH", _path_of(id), json=request))

    async def delete(self, id: str) -> None:
        """Delete a webhook, and with it what waits to be sent to it."""
        await self._sender.send(Call("DELETE", _path_of(id)))

    async def rotate_secret(self, id: str, **request: Unpack[WebhookRotate]) -> WebhookWithSecret:
        """Give a webhook another secret, which is shown this once; those from before sign too for a while."""
        call = Call("POST", _path_of(id, "rotate-secret"), json=request)
        return await self._sender.read(WebhookWithSecret, call)

    async def test(self, id: str) -> WebhookDelivery:
        """Send a webhook a `webhook.test`."""
        return await self._sender.read(WebhookDelivery, Call("POST", _path_of(id, "test")))

    def deliveries(
        self, id: str, *, page_size: int = 100, **filters: Unpack[ListWebhookDeliveries]
    ) -> AsyncIterator[WebhookDelivery]:
        """What was sent to a webhook or will be, newest first."""
        return self._sender.pages(WebhookDelivery, _path_of(id, "deliveries"), filters, page_size)

    async def delivery(self, id: str, delivery_id: str) -> WebhookDelivery:
        """A delivery of a webhook."""
        return await self._sender.read(WebhookDelivery, Call("GET", _path_of(id, "deliveries", delivery_id)))

    async def replay(self, id: str, delivery_id: str) -> WebhookDelivery:
        """Send a delivery again, whatever became of it."""
        call = Call("POST", _path_of(id, "deliveries", delivery_id, "replay"))
        return await self._sender.read(WebhookDelivery, call)

    async def replay_dead(self, id: str, *, since: str) -> WebhookReplay:
        """Send all dead deliveries of events since a time again, up to a thousand at once.

        Args:
            id: of the webhook.
            since: RFC 3339, with its offset from UTC.
        """
        call = Call("POST", _path_of(id, "replay"), json={"since": since})
        return await self._sender.read(WebhookReplay, call)


def _path_of(id: str, *parts: str) -> str:
    return "/".join([_PATH, *(quote(part, safe="") for part in (id, *parts))])
