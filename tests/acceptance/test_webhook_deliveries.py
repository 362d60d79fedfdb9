"""API processes share deliveries, and one goes on with what another that was killed was sending."""

from collections import Counter
from pathlib import Path

from tests.deployments import Deploy
from tests.live_service import LiveService, fresh_key, until
from tests.tls_servers import make_authority
from tests.webhook_receiver import Receiver, Reply

AT_ONCE = 4
# As many tests as may wait, and fewer.
SHARED, HELD_UP = 10, 6
SCALED = {"MEMAUDIT_WEBHOOK_TIMEOUT_SECONDS": "2", "MEMAUDIT_WEBHOOK_RETRY_SECONDS": "0.2"}


def test_two_processes_share_deliveries_and_one_is_killed_in_their_middle(
    deploy: Deploy, tmp_path: Path
) -> None:
    with Receiver(make_authority(tmp_path / "authority")) as receiver:
        deployment = deploy(**receiver.environment, **SCALED)
        first = deployment.service
        with LiveService(
            tmp_path,
            database_url=first.database_url,
            broker_url=deployment.redis.url,
            model_roots=[],
            **receiver.environment,
            **SCALED,
        ) as second:
            answer = first.client.post("/v1/webhooks", json={"url": receiver.url}, headers=fresh_key())
            webhook = answer.json()
            shared = [ask_for_test(each, webhook) for each in (first, second) for _ in range(SHARED // 2)]
            until(lambda: states(second, webhook) == {"delivered": SHARED}, "all are delivered")
            assert Counter(receiver.ids()) == dict.fromkeys(shared, 1)

            receiver.received.clear()
            receiver.answer = lambda _: Reply(after=60)
            asked = [ask_for_test(first, webhook) for _ in range(HELD_UP)]
            until(lambda: len(receiver.received) >= AT_ONCE, "some are under way")
            assert first.api.process is not None
            first.api.process.kill()
            under_way = receiver.ids()
            receiver.answer = lambda _: Reply()
            until(lambda: states(second, webhook) == {"delivered": SHARED + HELD_UP}, "all are delivered")
            # What was cut off came again with the id that it had, and all else once.
            times = Counter(receiver.ids())
            assert times.keys() == set(asked)
            assert all(times[each] == 1 for each in set(asked) - set(under_way))
            assert all(times[each] >= 2 for each in under_way)
            for each in receiver.received:
                assert each.verified(webhook["secret"])["type"] == "webhook.test"
            assert webhook["secret"] not in first.logs() + second.logs()


def ask_for_test(service: LiveService, webhook: dict[str, str]) -> str:
    answer = service.client.post(f"/v1/webhooks/{webhook['id']}/test")
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def states(service: LiveService, webhook: dict[str, str]) -> Counter[str]:
    answer = service.client.get(f"/v1/webhooks/{webhook['id']}/deliveries", params={"limit": 100})
    return Counter(each["status"] for each in answer.json()["data"])
