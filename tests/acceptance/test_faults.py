"""Promises 1 to 3 under real faults: every audit ends once, with one row a text and the same numbers.

The oracle of every test is the same audit without a fault: all numbers must be bit-equal.
"""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deployments import Deploy, Deployment
from tests.live_service import job_process, until

Texts = list[dict[str, Any]]
Check = Callable[[Deployment, str], None]
# Short suffixes, so that decoding does not outweigh everything else.
REQUEST = {
    "metrics": ["nl", "extraction", "verbatim", "p_z"],
    "options": {"prefix_tokens": 16, "suffix_tokens": 8},
}


@pytest.fixture
def request_audit(tiny_checkpoint: Path, audited_texts: Texts) -> Callable[[Deployment], str]:
    """Upload the texts, register the checkpoint, request the audit; wait for none of it."""

    def request(deployment: Deployment) -> str:
        service = deployment.service
        return service.audit(service.register(tiny_checkpoint), service.upload(audited_texts), **REQUEST)

    return request


@pytest.fixture(scope="module")
def expected(module_deploy: Deploy, tiny_checkpoint: Path, audited_texts: Texts) -> list[dict[str, Any]]:
    """The rows of the audit without a fault."""
    service = module_deploy().service
    service.start_worker()
    audit = service.audit(service.register(tiny_checkpoint), service.upload(audited_texts), **REQUEST)
    ended = service.end_of(audit)
    assert ended["status"] == "succeeded", (ended, service.logs())
    return service.scores(audit)


@pytest.fixture
def check(expected: list[dict[str, Any]], audited_texts: Texts) -> Check:
    """The audit succeeds with exactly one row a text and the unfaulted numbers."""

    def check_audit(deployment: Deployment, audit_id: str) -> None:
        audit = deployment.service.end_of(audit_id)
        assert audit["status"] == "succeeded", audit
        assert audit["progress"] == {"done": len(audited_texts), "total": len(audited_texts), "unit": "texts"}
        scores = deployment.service.scores(audit_id)
        assert [row["ordinal"] for row in scores] == list(range(len(audited_texts)))
        assert scores == expected
        evidence = deployment.rows("SELECT count(*), count(DISTINCT ordinal) FROM token_evidence")
        assert evidence == [(len(audited_texts), len(audited_texts))]

    return check_audit


def test_the_worker_is_killed_in_the_middle_of_a_shard(
    deploy: Deploy, request_audit: Callable[[Deployment], str], check: Check
) -> None:
    deployment = deploy()
    worker = deployment.service.start_worker()
    audit = request_audit(deployment)
    deployment.wait_for_jobs("score_shard", "succeeded", 1)
    deployment.suspend_within(worker, "score_shard").send_signal(signal.SIGKILL)
    check(deployment, audit)
    assert deployment.rows("SELECT max(attempts) FROM jobs") == [(2,)]


def test_a_whole_worker_is_killed_and_another_goes_on(
    deploy: Deploy, request_audit: Callable[[Deployment], str], check: Check
) -> None:
    deployment = deploy()
    worker = deployment.service.start_worker()
    audit = request_audit(deployment)
    deployment.wait_for_jobs("score_shard", "running")
    child = job_process(worker)
    assert worker.process is not None
    worker.process.send_signal(signal.SIGKILL)
    until(lambda: not child.is_running() or child.status() == "zombie", "the child dies with its parent", 5)
    deployment.service.start_worker()
    check(deployment, audit)


def test_redis_goes_away_and_comes_back_empty(
    deploy: Deploy, request_audit: Callable[[Deployment], str], check: Check
) -> None:
    deployment = deploy()
    deployment.service.start_worker()
    audit = request_audit(deployment)
    deployment.wait_for_jobs("score_shard", "running")
    with deployment.redis_lost():
        time.sleep(4)
    # Work that is accepted from now on still finds a worker.
    second = request_audit(deployment)
    assert deployment.service.end_of(second)["status"] == "succeeded"
    deployment.rows(
        f"DELETE FROM token_evidence WHERE audit_id = '{second.removeprefix('aud_')}' RETURNING 1"
    )
    check(deployment, audit)


@pytest.mark.chaos
def test_redis_is_away_for_a_minute(
    deploy: Deploy, request_audit: Callable[[Deployment], str], check: Check
) -> None:
    deployment = deploy()
    deployment.service.start_worker()
    audit = request_audit(deployment)
    deployment.wait_for_jobs("score_shard", "running")
    with deployment.redis_lost():
        time.sleep(60)
    check(deployment, audit)


def test_postgres_is_killed_in_the_middle_and_restarted(
    deploy: Deploy, request_audit: Callable[[Deployment], str], check: Check
) -> None:
    deployment = deploy()
    deployment.service.start_worker()
    audit = request_audit(deployment)
    for shard in (1, 3, 5):
        deployment.wait_for_jobs("score_shard", "succeeded", shard)
        with deployment.postgres_killed():
            time.sleep(0.5)
    check(deployment, audit)


def test_the_api_dies_between_the_commit_and_the_bell(
    deploy: Deploy, request_audit: Callable[[Deployment], str], check: Check
) -> None:
    """With Redis away no bell can be rung; the API is killed before it could be rung later."""
    deployment = deploy()
    deployment.redis.stop()
    audit = request_audit(deployment)
    assert deployment.service.api.process is not None
    deployment.service.api.process.kill()
    deployment.service.api.process.wait()
    deployment.redis.start()
    deployment.service.start_worker()
    deployment.service.start_api()
    check(deployment, audit)


def test_every_bell_is_delivered_three_times(
    deploy: Deploy, request_audit: Callable[[Deployment], str], check: Check
) -> None:
    deployment = deploy()
    audit = request_audit(deployment)
    deployment.triple_bells()
    deployment.service.start_worker()
    deployment.service.start_worker()
    check(deployment, audit)
    assert deployment.rows("SELECT count(*) FROM jobs WHERE attempts <> 1") == [(0,)]


def test_two_workers_share_one_audit(
    deploy: Deploy, request_audit: Callable[[Deployment], str], check: Check
) -> None:
    deployment = deploy()
    deployment.service.start_worker()
    deployment.service.start_worker()
    with deployment.redis.client() as client:
        until(lambda: [each["cmd"] for each in client.client_list()].count("brpop") == 2, "two listen")
    audit = request_audit(deployment)
    check(deployment, audit)
    names = deployment.rows("SELECT count(DISTINCT worker) FROM jobs WHERE kind = 'score_shard'")
    assert names == [(2,)]


def test_a_worker_that_slept_past_its_lease_cannot_commit(
    deploy: Deploy, request_audit: Callable[[Deployment], str], check: Check
) -> None:
    deployment = deploy()
    sleeper = deployment.service.start_worker()
    audit = request_audit(deployment)
    deployment.wait_for_jobs("score_shard", "succeeded", 1)
    child = deployment.suspend_within(sleeper, "score_shard")
    ((job, epoch),) = deployment.rows("SELECT id, epoch FROM jobs WHERE state = 'running'")
    deployment.service.start_worker()
    until(
        lambda: deployment.rows(f"SELECT epoch FROM jobs WHERE id = '{job}'")[0][0] > epoch, "another claim"
    )
    child.resume()
    check(deployment, audit)
    until(lambda: "job_dropped" in sleeper.log.read_text(), "the sleeper drops its shard")


def test_cancel_ends_an_audit_and_frees_its_worker(
    deploy: Deploy, request_audit: Callable[[Deployment], str], tiny_checkpoint: Path
) -> None:
    deployment = deploy(shard_tokens=10_000_000, lease_seconds=60)
    service = deployment.service
    service.start_worker()
    audit = request_audit(deployment)
    deployment.wait_for_jobs("score_shard", "running")
    began = time.monotonic()
    response = service.client.post(f"/v1/audits/{audit}/cancel")
    assert response.status_code == 202
    assert service.end_of(audit, seconds=5)["status"] == "cancelled"
    # The worker is free again: a new audit is done although the old shard would still run.
    again = service.audit(service.register(tiny_checkpoint), service.upload([{"text": "free again"}]))
    assert service.end_of(again)["status"] == "succeeded"
    assert time.monotonic() - began < 5
    assert deployment.rows("SELECT count(*) FROM scores") == [(1,)]
    assert service.client.post(f"/v1/audits/{audit}/cancel").status_code == 409


def test_a_shard_that_kills_its_worker_is_tried_three_times(
    deploy: Deploy, request_audit: Callable[[Deployment], str]
) -> None:
    deployment = deploy(shard_tokens=10_000_000, lease_seconds=1)
    worker = deployment.service.start_worker()
    audit = request_audit(deployment)
    for attempt in (1, 2, 3):
        query = (
            f"SELECT 1 FROM jobs WHERE kind = 'score_shard' AND state = 'running' AND attempts = {attempt}"
        )
        until(lambda query=query: bool(deployment.rows(query)), f"attempt {attempt}")
        deployment.suspend_within(worker, "score_shard").send_signal(signal.SIGKILL)
    ended = deployment.service.end_of(audit)
    assert ended["status"] == "failed"
    assert ended["error"]["type"].endswith("/attempts-exhausted")
    assert "3 attempts" in ended["error"]["detail"]
    assert deployment.rows("SELECT count(*) FROM scores") == [(0,)]
    assert deployment.service.client.get(f"/v1/audits/{audit}/scores").status_code == 409
