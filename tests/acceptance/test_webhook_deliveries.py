"""API processes that are killed in the middle of deliveries, and that share them."""

import time
from collections import Counter
from pathlib import Path

from tests.deployments import Deploy
from tests.live_service import LiveService, fresh_key, until
from tests.tls_servers import make_authority
from tests.webhook_receiver import Receiver, Reply

AT_ONCE = 4


def test_what_a_killed_process_was_sending_comes_again_with_its_id(deploy: Deploy, tmp_path: Path) -> None:
    with Receiver(make_authority(tmp_path / "authority")) as receiver:
        scaled = {"MEMAUDIT_WEBHOOK_TIMEOUT_SECONDS": "2", "MEMAUDIT_WEBHOOK_RETRY_SECONDS": "0.2"}
        deployment = deploy(**receiver.environment, **scaled)
        service = deployment.service
        answer = service.client.post("/v1/webhooks", json={"url": receiver.url}, headers=fresh_key())
        webhook = answer.json()
        receiver.answer = lambda _: Reply(after=60)
        asked = [ask_for_test(service, webhook["id"]) for _ in range(6)]
        until(lambda: len(receiver.received) >= AT_ONCE, "some are under way")
        assert service.api.process is not None
        service.api.process.kill()
        service.api.process.wait()
        under_way = set(receiver.ids())
        receiver.answer = lambda _: Reply()
        service.start_api()
        until(lambda: set(receiver.ids()[AT_ONCE:]) == set(asked), "all come", 30)
        path = f"/v1/webhooks/{webhook['id']}/deliveries"
        until(lambda: statuses(service, path) == {"delivered": 6}, "all are written down")
        again = Counter(receiver.ids())
        # What was cut off came once more, with the id that it had; nothing else did.
        assert {each for each, times in again.items() if times > 1} == under_way
        assert set(again.values()) == {1, 2}
        assert {each.verified(webhook["secret"])["type"] for each in receiver.received} == {"webhook.test"}
        time.sleep(0.5)
        assert Counter(receiver.ids()) == again
        assert webhook["secret"] not in service.logs()
        with LiveService(
            tmp_path,
            database_url=service.database_url,
            broker_url=deployment.redis.url,
            model_roots=[],
            **receiver.environment,
            **scaled,
        ) as second:
            shared = [ask_for_test(each, webhook["id"]) for each in (service, second) for _ in range(15)]
            until(lambda: statuses(service, path) == {"delivered": 36}, "all are delivered")
        times = Counter(receiver.ids())
        assert [times[each] for each in shared] == [1] * 30


def ask_for_test(service: LiveService, webhook_id: str) -> str:
    answer = service.client.post(f"/v1/webhooks/{webhook_id}/test")
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def statuses(service: LiveService, path: str) -> Counter[str]:
    answer = service.client.get(path, params={"limit": 100})
    return Counter(each["status"] for each in answer.json()["data"])
