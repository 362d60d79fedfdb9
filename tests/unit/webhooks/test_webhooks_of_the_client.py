"""What `client.webhooks` sends, and that it understands what is answered."""

import json
from typing import Any

import httpx
import pytest

from tests.acceptance.openapi_snapshot import SNAPSHOT
from tests.both_clients import FACES, client_of

WEBHOOK: dict[str, Any] = {
    "object": "webhook",
    "id": "whk_1",
    "url": "https://example.com/",
    "event_types": None,
    "includes_edits": False,
    "description": None,
    "enabled": True,
    "disabled_reason": None,
    "metadata": {},
    "created_at": "2026-01-01T00:00:00Z",
}
DELIVERY: dict[str, Any] = {
    "object": "webhook_delivery",
    "id": "dlv_1",
    "webhook": "whk_1",
    "event": None,
    "type": "webhook.test",
    "status": "dead",
    "attempts": 3,
    "last_status": 500,
    "last_error": "refused",
    "last_attempt_at": None,
    "next_attempt_at": None,
    "finished_at": None,
    "created_at": "2026-01-01T00:00:00Z",
}


def answer(request: httpx.Request) -> httpx.Response:
    path = request.url.path.removeprefix("/v1/webhooks")
    if request.method == "DELETE":
        return httpx.Response(204)
    if path.endswith(("/test", "/dlv_1", "/dlv_1/replay")):
        return httpx.Response(200, json=DELIVERY)
    if path.endswith("/replay"):
        return httpx.Response(202, json={"object": "webhook_replay", "replayed": 1, "has_more": False})
    if request.method == "GET" and path in {"", "/whk_1/deliveries"}:
        item = DELIVERY if path else WEBHOOK
        return httpx.Response(200, json={"data": [item], "has_more": False, "next_cursor": None})
    return httpx.Response(200, json=WEBHOOK | {"secret": "whsec_x"})


@pytest.mark.parametrize("face", FACES)
async def test_each_call_is_a_request_of_the_contract(face: str) -> None:
    sent: list[httpx.Request] = []

    def remembered(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return answer(request)

    async with client_of(face, "http://m.test", "mak_x", transport=httpx.MockTransport(remembered)) as client:
        webhooks = client.webhooks
        made = await webhooks.create(url="https://example.com/", event_types=["gate.failed"])
        assert (made.id, made.secret) == ("whk_1", "whsec_x")
        assert (await webhooks.get("whk_1")).enabled
        assert [each.id async for each in webhooks.list()] == ["whk_1"]
        await webhooks.change("whk_1", enabled=False)
        assert (await webhooks.rotate_secret("whk_1", overlap_seconds=0)).secret == "whsec_x"
        assert (await webhooks.test("whk_1")).type == "webhook.test"
        assert [each.status async for each in webhooks.deliveries("whk_1", status="dead")] == ["dead"]
        assert (await webhooks.delivery("whk_1", "dlv_1")).attempts == 3
        assert (await webhooks.replay("whk_1", "dlv_1")).id == "dlv_1"
        assert (await webhooks.replay_dead("whk_1", since="2026-01-01T00:00:00Z")).replayed == 1
        await webhooks.delete("whk_1")
    document = json.loads(SNAPSHOT.read_text())
    requested = [
        (
            each.method.lower(),
            each.url.path.replace("whk_1", "{webhook_id}").replace("dlv_1", "{delivery_id}"),
        )
        for each in sent
    ]
    assert all(method in document["paths"][path] for method, path in requested)
    assert len(set(requested)) == len(requested)
    offered = {
        (method, path)
        for path, methods in document["paths"].items()
        for method in methods
        if path.startswith("/v1/webhooks")
    }
    assert set(requested) == offered
    assert "Idempotency-Key" in sent[0].headers
    assert sent[6].url.params["status"] == "dead"
