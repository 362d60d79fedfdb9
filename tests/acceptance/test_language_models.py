"""Registration by real workers: what is pinned, what is recorded, what is refused."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.deployments import Deploy, Deployment
from tests.hostile_models import CANARY, HOSTILE, NEVER_SAID, make_hostile, never_ending
from tests.hub_server import REPOSITORY, hub
from tests.live_service import job_process
from tests.tiny_models import save_tiny_model

OLD, NEW = "1" * 40, "2" * 40
PROBLEMS = "https://memaudit.dev/problems/"


@pytest.fixture(scope="module")
def deployment(module_deploy: Deploy) -> Iterator[Deployment]:
    started = module_deploy()
    started.service.start_worker(own_server=True)
    return started


@pytest.fixture
def checkpoint(tiny_checkpoint: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A copy of the tiny checkpoint that a test may spoil."""
    copy = tiny_checkpoint.parent / request.node.name.replace("[", "-").replace("]", "")
    shutil.copytree(tiny_checkpoint, copy)
    yield copy
    shutil.rmtree(copy)


def register(deployment: Deployment, source: Path | dict[str, str]) -> dict[str, Any]:
    return deployment.service.model(deployment.service.register(source))


def test_a_ready_model_says_what_it_is(deployment: Deployment, tiny_checkpoint: Path) -> None:
    model = register(deployment, tiny_checkpoint)
    weights = load_file(tiny_checkpoint / "model.safetensors")
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    assert model["status"] == "ready"
    assert model["architecture"] == "LlamaForCausalLM"
    assert model["parameter_count"] == sum(tensor.numel() for tensor in weights.values())
    assert model["context_length"] == config["max_position_embeddings"]
    assert model["vocabulary_size"] == config["vocab_size"]
    for name, digest in model["files"].items():
        assert hashlib.sha256((tiny_checkpoint / name).read_bytes()).hexdigest() == digest
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(model["files"])


def _pickle_only(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(weights, directory / "pytorch_model.bin")


def _custom_code(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_mine.Mine"}
    (directory / "config.json").write_text(json.dumps(config))


def _truncated(directory: Path) -> None:
    data = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(data[: len(data) // 2])


def _unsupported(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config |= {"model_type": "vit", "architectures": ["ViTModel"]}
    (directory / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("spoil", [_pickle_only, _custom_code, _truncated, _unsupported])
def test_what_cannot_be_used_is_rejected_and_says_why(
    deployment: Deployment, checkpoint: Path, spoil: Any
) -> None:
    spoil(checkpoint)
    model = register(deployment, checkpoint)
    assert model["status"] == "rejected"
    assert model["error"]["type"] == PROBLEMS + "language-model-rejected"
    assert len(model["error"]["detail"]) > 20
    text_set = deployment.service.upload([{"text": "never scored"}])
    body = {"model": model["id"], "text_set": text_set}
    refused = deployment.service.client.post(
        "/v1/audits", json=body, headers={"Idempotency-Key": checkpoint.name}
    )
    assert refused.status_code == 409


def test_an_audit_that_waits_for_a_rejected_model_fails(deployment: Deployment, checkpoint: Path) -> None:
    _truncated(checkpoint)
    service = deployment.service
    text_set = service.upload([{"text": "never scored"}])
    audit = service.audit({"type": "path", "path": str(checkpoint)}, text_set)
    ended = service.end_of(audit)
    assert ended["status"] == "failed"
    assert ended["error"]["type"] == PROBLEMS + "language-model-rejected"


def test_files_that_changed_after_registration_fail_the_audit(
    deployment: Deployment, checkpoint: Path
) -> None:
    service = deployment.service
    model = register(deployment, checkpoint)
    save_tiny_model(checkpoint, seed=99)
    ended = service.end_of(service.audit(model["id"], service.upload([{"text": "changed weights"}])))
    assert ended["status"] == "failed"
    assert ended["error"]["type"] == PROBLEMS + "language-model-changed"


def test_a_link_out_of_the_roots_is_rejected(
    deployment: Deployment, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    outside = save_tiny_model(tmp_path / "outside")
    link = tiny_checkpoint.parent / "link"
    link.symlink_to(outside)
    model = register(deployment, link)
    link.unlink()
    assert model["status"] == "rejected"


def test_a_path_outside_the_roots_changes_nothing(deployment: Deployment, tmp_path: Path) -> None:
    client = deployment.service.client
    for path in (str(tmp_path), "/etc", f"{tmp_path}/../../etc"):
        response = client.post(
            "/v1/models",
            json={"source": {"type": "path", "path": path}},
            headers={"Idempotency-Key": path.replace("/", "-")},
        )
        assert response.status_code == 422
        assert response.json()["type"] == PROBLEMS + "source-not-allowed"
        assert response.json()["errors"] == [{"pointer": "/source/path", "code": "path_not_allowed"}]


def test_hostile_directories_are_rejected_and_the_next_job_is_served(
    deployment: Deployment, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    """One after the other, by one process that lives on; what is honest is registered last."""
    service = deployment.service
    process = job_process(service.workers[0]).pid
    roots = tiny_checkpoint.parent
    directories = {
        name: make_hostile(tiny_checkpoint, roots / f"hostile-{number}", tmp_path / str(number), spoil)
        for number, (name, spoil) in enumerate(HOSTILE.items())
    }
    try:
        models = {name: service.register(directory) for name, directory in directories.items()}
        honest = register(deployment, tiny_checkpoint)
        answers = {name: service.client.get(f"/v1/models/{each}").json() for name, each in models.items()}
    finally:
        for directory in directories.values():
            shutil.rmtree(directory)
    assert {name: each["status"] for name, each in answers.items()} == dict.fromkeys(HOSTILE, "rejected")
    types = {each["error"]["type"] for each in answers.values()}
    assert types == {PROBLEMS + "language-model-rejected"}
    for name, answer in answers.items():
        detail = answer["error"]["detail"]
        assert len(detail) < 400, name
        assert not any(never in detail for never in NEVER_SAID), (name, detail)
    assert not list(tmp_path.rglob("executed"))
    assert CANARY not in service.logs()
    assert honest["status"] == "ready"
    audit = service.end_of(service.audit(honest["id"], service.upload([{"text": "served by the living"}])))
    assert audit["status"] == "succeeded"
    assert job_process(service.workers[0]).pid == process
    assert "job_crashed" not in service.logs()  # each was told at the first attempt


def test_a_tokenizer_that_never_ends_fails_its_audit_alone(
    deployment: Deployment, tiny_checkpoint: Path, checkpoint: Path
) -> None:
    content = json.loads((checkpoint / "tokenizer.json").read_text())
    content["pre_tokenizer"] = never_ending("q")
    (checkpoint / "tokenizer.json").write_text(json.dumps(content))
    service = deployment.service
    model = register(deployment, checkpoint)
    assert model["status"] == "ready"  # an honest text it takes
    audits = [
        service.audit(model["id"], service.upload([{"text": text}])) for text in ("q" * 50_000, "a" * 50_000)
    ]
    hung, after = (service.end_of(audit) for audit in audits)
    assert hung["status"] == "failed"
    assert hung["error"]["type"] == PROBLEMS + "tokenizing-failed"
    assert after["status"] == "succeeded"


def test_a_hub_revision_is_pinned_to_its_commit(deploy: Deploy, tmp_path: Path) -> None:
    """The branch moves between registration and audit; the audit still uses what was registered."""
    old = save_tiny_model(tmp_path / "old", seed=1)
    new = save_tiny_model(tmp_path / "new", seed=2)
    branches = {"main": OLD}
    with hub({OLD: old, NEW: new}, branches) as endpoint:
        deployment = deploy(HF_ENDPOINT=endpoint, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path / "hub"))
        deployment.service.start_worker()
        source = {"type": "hub", "repo": REPOSITORY}
        before = register(deployment, source)
        assert (before["status"], before["revision"]) == ("ready", OLD), before
        branches["main"] = NEW
        shutil.rmtree(tmp_path / "hub")
        service = deployment.service
        audit = service.end_of(service.audit(before["id"], service.upload([{"text": "which weights?"}])))
        assert audit["status"] == "succeeded"
        assert audit["digests"]["model"] == before["digest"]
        after = register(deployment, source)
        assert after["revision"] == NEW
        assert after["digest"] != before["digest"]

        missing = register(deployment, {"type": "hub", "repo": "acme/absent"})
        assert missing["status"] == "rejected"

        (new / "model.safetensors").rename(new / "model-Q8_0.gguf")
        quantized = register(deployment, source)
        assert quantized["status"] == "rejected"
        assert "GGUF" in quantized["error"]["detail"]
