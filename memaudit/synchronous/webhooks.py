"""`client.webhooks`."""

from collections.abc import Iterator
from typing import Final, Unpack
from urllib.parse import quote

from memaudit.calls import Call, work_headers
from memaudit.requests import ListWebhookDeliveries, ListWebhooks, WebhookChange, WebhookCreate, WebhookRotate
from memaudit.synchronous.sender import Sender
from memaudit.types import Webhook, WebhookDelivery, WebhookReplay, WebhookWithSecret

_PATH: Final = "/v1/webhooks"


class Webhooks:
    """Receivers that are told of events: what ended and how."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def create(
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
        return self._sender.read(WebhookWithSecret, call)

    def get(self, id: str) -> Webhook:
        """A webhook."""
        return self._sender.read(Webhook, Call("GET", _path_of(id)))

    def list(self, *, page_size: int = 100, **filters: Unpack[ListWebhooks]) -> Iterator[Webhook]:
        """All webhooks, newest first, page by page as they are reached."""
        return self._sender.pages(Webhook, _PATH, filters, page_size)

    def change(self, id: str, **request: Unpack[WebhookChange]) -> Webhook:
        """Change a webhook; what is left out stays."""
        return self._sender.read(Webhook, Call("PATCH", _path_of(id), json=request))

    def delete(self, id: str) -> None:
        """Delete a webhook, and with it what waits to be sent to it."""
        self._sender.send(Call("DELETE", _path_of(id)))

    def rotate_secret(self, id: str, **request: Unpack[WebhookRotate]) -> WebhookWithSecret:
        """Give a webhook another secret, which is shown this once; those from before sign too for a while."""
        call = Call("POST", _path_of(id, "rotate-secret"), json=request)
        return self._sender.read(WebhookWithSecret, call)

    def test(self, id: str) -> WebhookDelivery:
        """Send a webhook a `webhook.test`."""
        return self._sender.read(WebhookDelivery, Call("POST", _path_of(id, "test")))

    def deliveries(
        self, id: str, *, page_size: int = 100, **filters: Unpack[ListWebhookDeliveries]
    ) -> Iterator[WebhookDelivery]:
        """What was sent to a webhook or will be, newest first."""
        return self._sender.pages(WebhookDelivery, _path_of(id, "deliveries"), filters, page_size)

    def delivery(self, id: str, delivery_id: str) -> WebhookDelivery:
        """A delivery of a webhook."""
        return self._sender.read(WebhookDelivery, Call("GET", _path_of(id, "deliveries", delivery_id)))

    def replay(self, id: str, delivery_id: str) -> WebhookDelivery:
        """Send a delivery again, whatever became of it."""
        call = Call("POST", _path_of(id, "deliveries", delivery_id, "replay"))
        return self._sender.read(WebhookDelivery, call)

    def replay_dead(self, id: str, *, since: str) -> WebhookReplay:
        """Send all dead deliveries of events since a time again, up to a thousand at once.

        Args:
            id: of the webhook.
            since: RFC 3339, with its offset from UTC.
        """
        call = Call("POST", _path_of(id, "replay"), json={"since": since})
        return self._sender.read(WebhookReplay, call)


def _path_of(id: str, *parts: str) -> str:
    return "/".join([_PATH, *(quote(part, safe="") for part in (id, *parts))])
