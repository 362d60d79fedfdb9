"""Edits under real faults: each ends once, with one artifact and the numbers of an edit without a fault.

The oracle of every test is the same edit without a fault: weights and numbers must be bit-equal.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deployments import Deploy, Deployment
from tests.edit_requests import end_of, kfac_request, request, upload_sets
from tests.live_service import LiveService, job_process, until
from workers.science.models.checkpoint_files import digest_files

RequestEdit = Callable[[Deployment], dict[str, Any]]
Check = Callable[[Deployment, dict[str, Any]], None]
EDIT = "run_edit"
SHARD = "collect_factors"
NUMBERS = ("strict", "loose", "nl")


@pytest.fixture(scope="module")
def request_edit(reciting_checkpoint: Path, sentences: list[str]) -> RequestEdit:
    """Upload the texts, register the checkpoint, request the edit; wait for none of it."""

    def request_it(deployment: Deployment) -> dict[str, Any]:
        service = deployment.service
        sets = upload_sets(service, sentences)
        return request(service, kfac_request(service.register(reciting_checkpoint), sets, "once"))

    return request_it


def outcome(service: LiveService, edit: dict[str, Any]) -> dict[str, Any]:
    """What must be the same in every try: the weights and the proof."""
    manifest = service.client.get(f"/v1/artifacts/{edit['artifact']}").json()
    proof = edit["evaluation"]
    return {
        "weights": [file["sha256"] for file in manifest["files"] if file["path"].endswith(".safetensors")],
        "ndcg": proof["ndcg"],
        "sets": {
            role: {name: measured[name] for name in NUMBERS if name in measured}
            for role, measured in proof["sets"].items()
        },
    }


@pytest.fixture(scope="module")
def expected(module_deploy: Deploy, request_edit: RequestEdit) -> dict[str, Any]:
    """The outcome of the edit without a fault."""
    deployment = module_deploy()
    deployment.service.start_worker()
    edit = end_of(deployment.service, request_edit(deployment))
    assert edit["status"] == "succeeded", (edit["error"], deployment.service.logs()[-2000:])
    return outcome(deployment.service, edit)


@pytest.fixture
def check(expected: dict[str, Any]) -> Check:
    """The edit succeeds with one artifact, one edited model, one audit a side and set, and those numbers."""

    def check_edit(deployment: Deployment, edit: dict[str, Any]) -> None:
        edit = end_of(deployment.service, edit)
        assert edit["status"] == "succeeded", (edit["error"], deployment.service.logs()[-2000:])
        assert outcome(deployment.service, edit) == expected
        assert deployment.rows("SELECT count(*) FROM artifacts") == [(1,)]
        assert deployment.rows("SELECT count(*) FROM language_models") == [(2,)]
        assert deployment.rows("SELECT count(*) FROM audits") == [(2 * len(edit["evaluation"]["sets"]),)]
        assert deployment.rows("SELECT DISTINCT state FROM jobs") == [("succeeded",)]
        ((collected, runs),) = deployment.rows(
            f"SELECT count(*) FILTER (WHERE kind = '{SHARD}'), "
            f"count(*) FILTER (WHERE kind = '{EDIT}') FROM jobs"
        )
        assert runs == (2 if collected else 1)

    return check_edit


@pytest.mark.parametrize(
    ("table", "left"), [pytest.param("factors", 2, marks=pytest.mark.chaos), ("artifacts", 1)]
)
def test_the_worker_is_killed_in_the_middle_of_an_edit(
    deploy: Deploy, request_edit: RequestEdit, check: Check, reciting_checkpoint: Path, table: str, left: int
) -> None:
    """While it keeps the first factor, and in the finishing transaction when all files are stored."""
    before = digest_files(reciting_checkpoint.iterdir())
    deployment = deploy()
    workplaces = deployment.service.directory / "edits"
    worker = deployment.service.start_worker()
    edit = request_edit(deployment)
    with deployment.held_up_at(table):
        job_process(worker).kill()
        assert len(list(workplaces.iterdir())) == left
    check(deployment, edit)
    assert deployment.rows(f"SELECT attempts FROM jobs WHERE kind = '{EDIT}'") == [(2,)]
    assert digest_files(reciting_checkpoint.iterdir()) == before
    assert list(workplaces.iterdir()) == []


def test_a_worker_that_is_killed_while_it_collects_repeats_its_shard_only(
    deploy: Deploy, request_edit: RequestEdit, check: Check
) -> None:
    """Two workers share the shards; one dies when some are committed and others are being written."""
    deployment = deploy(MEMAUDIT_COLLECTION_SHARD_TOKENS="1")
    workers = [deployment.service.start_worker() for _ in range(2)]
    edit = request_edit(deployment)
    shards = f"FROM jobs WHERE kind = '{SHARD}'"
    deployment.wait_for_jobs(SHARD, "succeeded")
    with deployment.held_up_at("partial_factors"):
        (name,) = deployment.rows(f"SELECT worker {shards} AND state = 'running' LIMIT 1")[0]
        children = {str(job_process(worker).pid): job_process(worker) for worker in workers}
        children[name.rpartition(":")[2]].kill()
    check(deployment, edit)
    attempts = sorted(row[0] for row in deployment.rows(f"SELECT attempts {shards}"))
    assert attempts == [*[1] * (len(attempts) - 1), 2]
    assert len(attempts) > 2
    assert deployment.rows(f"SELECT attempts FROM jobs WHERE kind = '{EDIT}'") == [(1,), (1,)]
    once = "SELECT shard, projection, side FROM partial_factors GROUP BY 1, 2, 3 HAVING count(*) = 1"
    assert len(deployment.rows(once)) == 8 * len(attempts)


def test_a_worker_that_slept_past_its_lease_cannot_commit_its_edit(
    deploy: Deploy, request_edit: RequestEdit, check: Check
) -> None:
    deployment = deploy()
    sleeper = deployment.service.start_worker()
    edit = request_edit(deployment)
    child = deployment.suspend_within(sleeper, EDIT)
    deployment.service.start_worker()
    check(deployment, edit)
    child.resume()
    until(lambda: "job_dropped" in sleeper.log.read_text(), "the sleeper drops its edit")
    check(deployment, edit)


@pytest.mark.chaos  # the same of an audit is tried each time
def test_redis_goes_away_under_an_edit_and_comes_back_empty(
    deploy: Deploy, request_edit: RequestEdit, check: Check
) -> None:
    """Its bell is lost before any worker hears it; then Redis is away while the edit runs and ends."""
    deployment = deploy()
    edit = request_edit(deployment)
    with deployment.redis.client() as client:
        client.flushall()
    worker = deployment.service.start_worker()
    child = deployment.suspend_within(worker, EDIT)
    with deployment.redis_lost():
        child.resume()
        time.sleep(2)
    check(deployment, edit)


def test_postgres_is_killed_in_the_middle_of_an_edit_and_restarted(
    deploy: Deploy, request_edit: RequestEdit, check: Check
) -> None:
    deployment = deploy()
    worker = deployment.service.start_worker()
    edit = request_edit(deployment)
    child = deployment.suspend_within(worker, EDIT)
    with deployment.postgres_killed():
        child.resume()
        time.sleep(0.5)
    check(deployment, edit)


@pytest.mark.chaos  # the same of an audit is tried each time
def test_every_bell_of_an_edit_is_delivered_three_times(
    deploy: Deploy, request_edit: RequestEdit, check: Check
) -> None:
    deployment = deploy()
    edit = request_edit(deployment)
    deployment.triple_bells()
    deployment.service.start_worker()
    deployment.service.start_worker()
    check(deployment, edit)
    assert deployment.rows("SELECT count(*) FROM jobs WHERE attempts <> 1") == [(0,)]
