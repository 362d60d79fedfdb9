"""The Python client, both faces of it, against real processes."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from memaudit import Conflict, Invalid, NotFound, ServiceUnreachable, WaitTimedOut, WorkFailed
from memaudit.types import Audit
from tests.both_clients import FACES, client_of
from tests.cutting_proxy import cutting_proxy
from tests.deployments import Deploy, Deployment
from tests.live_service import job_process
from tests.servers import free_port

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEXTS = [
    {
        "id": f"text-{number}",
        "text": f"Text number {number} tells of {number * 7} larks.",
        "duplicates": number,
    }
    for number in range(7)
]
NOBODY = f"aud_{'0' * 32}"


@pytest.fixture(scope="module")
def deployment(module_deploy: Deploy) -> Deployment:
    deployment = module_deploy()
    deployment.service.start_worker()
    return deployment


@pytest.fixture(scope="module", params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def client(deployment: Deployment, face: str) -> AsyncIterator[Any]:
    async with client_of(face, deployment.service.url, deployment.service.key) as client:
        yield client


@pytest.fixture(scope="module")
async def audit(deployment: Deployment, face: str, tiny_checkpoint: Path) -> Audit:
    """A succeeded audit, made and waited for by the client."""
    async with client_of(face, deployment.service.url, deployment.service.key) as client:
        text_set = await client.text_sets.create(name="larks", texts=TEXTS)
        asked = await client.audits.create(
            model={"type": "path", "path": str(tiny_checkpoint)},
            text_set=text_set.id,
            metrics=["nl", "extraction"],
            metadata={"face": face},
        )
        seen: list[str] = []
        ended: Audit = await client.audits.wait(
            asked.id, on_progress=lambda audit: seen.append(audit.status), must_succeed=True
        )
    assert seen[-1] == ended.status == "succeeded"
    return ended


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def items(found: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in found]


async def test_scores_by_pages_and_in_a_file(client: Any, audit: Audit, tmp_path: Path) -> None:
    assert audit.summary is not None
    assert audit.progress.done == audit.summary.texts == len(TEXTS)
    scores = await items(client.audits.scores(audit.id, page_size=3))
    assert [score.text_id for score in scores] == [text["id"] for text in TEXTS]
    highest = await items(client.audits.scores(audit.id, sort="-nl", page_size=5))
    assert [score.nl for score in highest] == sorted((score.nl for score in scores), reverse=True)
    parquet, lines = tmp_path / "scores.parquet", tmp_path / "scores.jsonl"
    await client.audits.save_scores(audit.id, parquet)
    await client.audits.save_scores(audit.id, lines, format="jsonl")
    assert pq.read_table(parquet)["nl"].to_pylist() == [score.nl for score in scores]
    assert [json.loads(line)["nl"] for line in lines.read_text().splitlines()] == [s.nl for s in scores]
    assert set(names_in(tmp_path)) == {parquet.name, lines.name}  # and no part of one
    evidence = await client.audits.tokens(audit.id, "text-3")
    total = sum(token.log_likelihood for token in evidence.tokens)
    assert total == pytest.approx(scores[3].log_likelihood)


async def test_an_answer_is_what_the_service_said(client: Any, audit: Audit, deployment: Deployment) -> None:
    said = deployment.service.client.get(f"/v1/audits/{audit.id}").json()
    assert audit.model_dump(mode="json", exclude_unset=True) == said


async def test_lists_narrowed_and_turned_page_by_page(client: Any, audit: Audit, face: str) -> None:
    for number in range(3):
        await client.text_sets.create(name=f"{face}-{number}", texts=TEXTS[:1])
    named = [each.name async for each in client.text_sets.list(page_size=2) if each.name.startswith(face)]
    assert named == [f"{face}-2", f"{face}-1", f"{face}-0"]
    mine = await items(client.audits.list(metadata={"face": face}, status="succeeded", companions=False))
    assert [each.id for each in mine] == [audit.id]
    assert await items(client.audits.list(metadata={"face": "neither"})) == []
    (model,) = await items(client.models.list(status="ready"))
    assert model.id == audit.model


async def test_texts_are_uploaded_from_a_file_and_from_blocks(client: Any, face: str, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    sent: list[int] = []
    from_file = await client.text_sets.upload(path, on_sent=sent.append)
    assert (from_file.name, sent) == ("texts.jsonl", [path.stat().st_size])
    blocks = path.read_bytes().splitlines(keepends=True)
    from_blocks = await client.text_sets.upload(_blocks(face, blocks), name="blocks", format="jsonl")
    from_bytes = await client.text_sets.upload(path.read_bytes(), name="bytes", format="jsonl")
    assert from_file.hmac_sha256 == from_blocks.hmac_sha256 == from_bytes.hmac_sha256
    texts = await items(client.text_sets.texts(from_file.id, page_size=4))
    assert [text.text for text in texts] == [text["text"] for text in TEXTS]
    receipt = await client.text_sets.delete(from_file.id)
    assert receipt.id == from_file.id
    with pytest.raises(ValueError, match="name and format"):
        await client.text_sets.upload(b"{}")


def _blocks(face: str, blocks: list[bytes]) -> Any:
    async def asynchronously() -> AsyncIterator[bytes]:
        for block in blocks:
            yield block

    return iter(blocks) if face == "synchronous" else asynchronously()


async def test_work_asked_for_again_after_a_lost_answer_is_made_once(
    deployment: Deployment, face: str, audit: Audit
) -> None:
    """The service commits, and its answer is cut off: what repeats the request gets the same work."""
    key, metadata = deployment.service.key, {"face": f"{face} cut"}
    with cutting_proxy(deployment.service.url, 0, 0) as proxy:
        async with client_of(face, proxy.url, key) as client:
            asked = await client.audits.create(model=audit.model, text_set=audit.text_set, metadata=metadata)
            assert proxy.cuts == []
            found = await items(client.audits.list(metadata=metadata))
            assert [each.id for each in found] == [asked.id]
            again = [
                await client.audits.create(
                    model=audit.model, text_set=audit.text_set, idempotency_key=f"mine-{face}"
                )
                for _ in range(2)
            ]
            assert again[0].id == again[1].id


async def test_what_cannot_be_repeated_is_not(deployment: Deployment, face: str, audit: Audit) -> None:
    with cutting_proxy(deployment.service.url, 0) as proxy:
        async with client_of(face, proxy.url, deployment.service.key) as client:
            with pytest.raises(ServiceUnreachable):
                await client.audits.cancel(audit.id)  # what the lost answer said, another would not say
            with pytest.raises(Conflict):
                await client.audits.cancel(audit.id)
    with cutting_proxy(deployment.service.url, 0) as proxy:
        async with client_of(face, proxy.url, deployment.service.key) as client:
            blocks = _blocks(face, [b'{"text": "Once."}\n'])
            with pytest.raises(ServiceUnreachable):
                await client.text_sets.upload(blocks, name=f"once {face}", format="jsonl")
            assert len(await items(client.text_sets.list(name=f"once {face}"))) == 1


async def test_events_go_on_where_a_cut_connection_left_off(
    deployment: Deployment, face: str, tiny_checkpoint: Path
) -> None:
    service = deployment.service
    key = service.key
    async with client_of(face, service.url, key) as client:
        # So many that the audit still runs when a slow client begins to listen.
        texts = [{"text": f"{text['text']} {face} {turn}"} for turn in range(600) for text in TEXTS]
        text_set = await client.text_sets.create(name="many", texts=texts)
        asked = await client.audits.create(
            model={"type": "path", "path": str(tiny_checkpoint)}, text_set=text_set.id
        )
    with cutting_proxy(service.url, 3000) as proxy:
        async with client_of(face, proxy.url, key) as client:
            events = await items(client.audits.events(asked.id))
            assert proxy.cuts == []
            assert await items(client.audits.events(asked.id, last_event_id=events[-1].id)) == []
    assert events[-1].status == events[-1].data.status == "succeeded"
    assert len({event.id for event in events}) == len(events)
    done = [event.data.progress.done for event in events]
    assert done == sorted(done)


async def test_a_policy_decided_for_an_audit_and_its_evidence(client: Any, audit: Audit, face: str) -> None:
    rules = [{"kind": "rate", "metric": "strict", "at_most": 0.5}]
    policy = await client.policies.create(name=f"few-{face}", rules=rules)
    assert (policy.version, policy.rules[0].kind) == (1, "rate")
    assert [each.id async for each in client.policies.list(name=f"few-{face}")] == [policy.id]
    assert policy == await client.policies.get(policy.id)
    assert await client.policies.templates()
    gate = await client.gates.create(policy=policy.id, audit=audit.id)
    gate = await client.gates.wait(gate.id, must_succeed=True)
    assert (gate.outcome, gate.rules[0].outcome) == ("pass", "pass")
    assert [each.id async for each in client.gates.list(policy=policy.id)] == [gate.id]
    assert "in-toto" in [each.name async for each in client.audits.evidence_formats(audit.id)]
    with pytest.raises(NotFound):
        await client.audits.evidence(audit.id, "papyrus")


async def test_a_version_of_a_line_and_what_happens_to_it(client: Any, audit: Audit, face: str) -> None:
    policy = await client.policies.create(
        name=f"release-{face}", rules=[{"kind": "rate", "metric": "strict", "at_most": 0.001}]
    )
    check = {"text_set": audit.text_set, "metrics": ["nl", "extraction"], "policies": [policy.id]}
    line = await client.model_lines.create(name=f"line-{face}", checks=[check])
    assert line == await client.model_lines.get(line.id)
    assert [each.id async for each in client.model_lines.list(name=line.name)] == [line.id]
    asked = await client.model_lines.register(line.id, model=audit.model, label="1")
    version = await client.model_versions.wait(asked.id, must_succeed=True)
    assert (version.outcome, version.gates[0].outcome) == ("inconclusive", "inconclusive")
    told = await items(client.model_versions.events(version.id))
    kinds = ["version.registered", "gate.inconclusive", "version.succeeded"]
    assert [event.status for event in told] == [event.data.type for event in told] == kinds
    assert await items(client.model_versions.events(version.id, last_event_id=told[1].id)) == told[2:]
    listed = [event async for event in client.events(page_size=2) if event.model_version == version.id]
    assert listed == [event.data for event in told]
    assert [each.id async for each in client.model_lines.versions(line.id)] == [version.id]
    with pytest.raises(Conflict):
        await client.model_versions.diff(version.id)
    with pytest.raises(Conflict):
        await client.model_versions.cancel(version.id)


async def test_refusals_say_what_and_where(client: Any, audit: Audit) -> None:
    with pytest.raises(NotFound, match="audit") as absent:
        await client.audits.get(NOBODY)
    assert (absent.value.status, absent.value.problem.status) == (404, 404)
    with pytest.raises(Conflict):
        await client.audits.cancel(audit.id)
    with pytest.raises(Invalid) as wrong:
        await client.audits.create(model=audit.model, text_set=audit.text_set, metrics=["vibes"])
    assert [each.pointer for each in wrong.value.problem.errors] == ["/metrics/0"]
    assert "/metrics/0: " in str(wrong.value)


async def test_work_that_does_not_end_well_or_in_time(
    client: Any, audit: Audit, deployment: Deployment, tiny_checkpoint: Path, face: str
) -> None:
    hollow = tiny_checkpoint.parent / f"hollow-{face}"
    hollow.mkdir()
    child = job_process(deployment.service.workers[0])
    child.suspend()
    asked = await client.audits.create(
        model={"type": "path", "path": str(hollow)}, text_set=audit.text_set, metadata={"hollow": True}
    )
    with pytest.raises(WaitTimedOut) as early:
        await client.audits.wait(asked.id, timeout=0)
    assert early.value.work.status == "queued"
    child.resume()
    with pytest.raises(WorkFailed, match=f"{asked.id} failed: ") as bad:
        await client.audits.wait(asked.id, must_succeed=True)
    assert bad.value.work.error.detail in str(bad.value)
    rejected = await client.models.wait(bad.value.work.model)
    assert rejected.status == "rejected"


@pytest.fixture(scope="module")
def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


async def test_nobody_there_and_how_long_that_is_borne(face: str, nobody: str) -> None:
    async with client_of(face, nobody, "mak_any", patience=0) as client:
        with pytest.raises(ServiceUnreachable, match=nobody) as away:
            await client.presets.list()
    assert not away.value.sent


def test_the_example_notebook_runs(
    deployment: Deployment, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMAUDIT_URL", deployment.service.url)
    monkeypatch.setenv("MEMAUDIT_API_KEY", deployment.service.key)
    monkeypatch.setenv("MEMAUDIT_EXAMPLE_MODEL", str(tiny_checkpoint))
    notebook = json.loads((EXAMPLES / "audit_a_model.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["audit"].status == names["gate"].status == "succeeded"


def run_ci_job(
    directory: Path, programs: dict[str, str], model: object, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the script of the example in a directory, where these programs come before all others."""
    for name, script in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return subprocess.run(
        ["sh", EXAMPLES / "ci" / "gate.sh", str(model), "texts.jsonl", "policy.json"],
        env=os.environ | {"PATH": f"{directory}:{os.environ['PATH']}"} | variables,
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("allowed", "status"), [(0.5, 0), (0.001, 2)])
def test_the_example_ci_job_exits_with_the_verdict(
    deployment: Deployment, tiny_checkpoint: Path, tmp_path: Path, allowed: float, status: int
) -> None:
    service = deployment.service
    programs = {
        "memaudit": f'exec {sys.executable} -m app.cli "$@"',
        "python3": f'exec {sys.executable} "$@"',
    }
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in TEXTS))
    policy = json.loads((EXAMPLES / "ci" / "policy.json").read_text())
    policy["rules"][0]["at_most"] = allowed
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    done = run_ci_job(
        tmp_path,
        programs,
        tiny_checkpoint,
        MEMAUDIT_URL=service.url,
        MEMAUDIT_API_KEY=service.key,
        PYTHONPATH=str(EXAMPLES.parent),
    )
    assert done.returncode == status, done.stderr
    assert "of 7 texts" in done.stdout


@pytest.mark.parametrize(("command", "status"), [(3, 3), (4, 4), (127, 4)])
def test_the_example_ci_job_says_why_its_audit_was_not_judged(
    tmp_path: Path, command: int, status: int
) -> None:
    answers = f"""if [ "$1" = audit ]; then echo '{{"id": "{NOBODY}"}}'; else exit {command}; fi"""
    done = run_ci_job(tmp_path, {"memaudit": answers}, "model")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")
