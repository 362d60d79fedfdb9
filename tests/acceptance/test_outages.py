"""A hub that is away is waited for, and seen to be; one that refuses, or may not be asked, is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployments import Deploy, Deployment
from tests.hub_server import REPOSITORY, hub
from tests.live_service import until
from tests.servers import free_port

COMMIT = "1" * 40
PROBLEMS = "https://memaudit.dev/problems/"
REFUSALS = {"unauthorized": 401, "forbidden": 403, "absent": 404, "gone": 410}
FAILURES = {"busy": 429, "broken": 500, "away": 503}
# The third of three attempts used to be the last.
MORE_TRIES = 4


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def deployment(
    module_deploy: Deploy, tmp_path_factory: pytest.TempPathFactory, port: int
) -> Iterator[Deployment]:
    started = module_deploy(
        HF_ENDPOINT=f"http://127.0.0.1:{port}",
        HF_HUB_OFFLINE="0",
        HF_HOME=str(tmp_path_factory.mktemp("hub")),
        MEMAUDIT_RETRY_SECONDS="0.1",
    )
    started.service.start_worker()
    return started


def source(revision: str = "main") -> dict[str, str]:
    return {"type": "hub", "repo": REPOSITORY, "revision": revision}


def read(deployment: Deployment, path: str) -> dict[str, Any]:
    return dict(deployment.service.client.get(path).raise_for_status().json())


def wait_for_tries(deployment: Deployment, path: str) -> dict[str, Any]:
    """What a resource says when it was tried more often than attempts are made."""

    def tried() -> bool:
        waiting = read(deployment, path)["waiting"]
        return waiting is not None and waiting["attempts"] >= MORE_TRIES

    until(tried, f"{path} was tried {MORE_TRIES} times")
    return dict(read(deployment, path)["waiting"])


def attempts_of(deployment: Deployment, model_id: str) -> int:
    query = f"SELECT attempts FROM jobs WHERE language_model_id = '{model_id.removeprefix('mdl_')}'"
    return int(deployment.rows(query)[0][0])


def test_a_hub_that_is_away_for_longer_than_three_attempts_is_waited_for(
    deployment: Deployment, tiny_checkpoint: Path, port: int
) -> None:
    service = deployment.service
    audit = service.audit(source(), service.upload([{"text": "It waits for its language model."}]))
    model = read(deployment, f"/v1/audits/{audit}")["model"]
    for path in (f"/v1/models/{model}", f"/v1/audits/{audit}"):
        waiting = wait_for_tries(deployment, path)
        assert waiting["reason"]["type"] == PROBLEMS + "hub-unreachable"
        assert waiting["since"] < waiting["next_try_at"]
    listed = read(deployment, "/v1/models")["data"] + read(deployment, "/v1/audits")["data"]
    assert all(resource["waiting"] is not None for resource in listed)
    assert read(deployment, f"/v1/models/{model}")["status"] == "queued"
    with hub({COMMIT: tiny_checkpoint}, {"main": COMMIT}, port):
        assert service.end_of(audit)["status"] == "succeeded"
    ready = read(deployment, f"/v1/models/{model}")
    assert (ready["status"], ready["waiting"], ready["error"]) == ("ready", None, None)
    assert attempts_of(deployment, model) == 1


@pytest.mark.parametrize("revision", FAILURES)
def test_a_hub_that_fails_is_waited_for(
    deployment: Deployment, tiny_checkpoint: Path, port: int, revision: str
) -> None:
    failures = dict(FAILURES)
    with hub({COMMIT: tiny_checkpoint}, dict.fromkeys(FAILURES, COMMIT), port, failures):
        model = deployment.service.register(source(revision))
        waiting = wait_for_tries(deployment, f"/v1/models/{model}")
        assert str(FAILURES[revision]) in waiting["reason"]["detail"]
        failures.clear()
        assert deployment.service.model(model)["status"] == "ready"


@pytest.mark.parametrize("revision", REFUSALS)
def test_a_hub_that_refuses_is_not_waited_for(
    deployment: Deployment, tiny_checkpoint: Path, port: int, revision: str
) -> None:
    with hub({COMMIT: tiny_checkpoint}, {}, port, REFUSALS):
        model = deployment.service.model(deployment.service.register(source(revision)))
    assert model["status"] == "rejected"
    assert model["error"]["type"] == PROBLEMS + "language-model-rejected"
    assert attempts_of(deployment, model["id"]) == 1


def test_a_hub_that_may_not_be_asked_is_not_waited_for(deploy: Deploy, port: int) -> None:
    deployment = deploy(HF_HUB_OFFLINE="1", HF_ENDPOINT=f"http://127.0.0.1:{port}")
    deployment.service.start_worker()
    model = deployment.service.model(deployment.service.register(source()))
    assert model["status"] == "rejected"
    assert "HF_HUB_OFFLINE" in model["error"]["detail"]
    assert attempts_of(deployment, model["id"]) == 1


def test_a_hub_that_does_not_come_back_is_given_up(deploy: Deploy, port: int, tmp_path: Path) -> None:
    deployment = deploy(
        HF_HUB_OFFLINE="0",
        HF_ENDPOINT=f"http://127.0.0.1:{port}",
        HF_HOME=str(tmp_path),
        MEMAUDIT_RETRY_SECONDS="0.1",
        MEMAUDIT_OUTAGE_SECONDS="1",
    )
    deployment.service.start_worker()
    model = deployment.service.model(deployment.service.register(source()))
    assert model["status"] == "rejected"
    assert "It was tried" in model["error"]["detail"]
