"""An edit that is cancelled leaves no artifact and no changed weight, whatever its worker was busy with."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from sqlalchemy import update

from app.contracts.edit_methods import METHODS
from app.contracts.edits import EditEvaluation
from app.settings import Settings
from app.store.api_keys import find_principal
from app.store.edits import Edit
from app.store.jobs.job import Job, JobState
from app.store.language_models import LanguageModel
from app.store.lifecycle import cancel_operation
from tests.http_api import client_of, make_key, settings_with_models
from tests.own_worker import run_next
from tests.tiny_models import english_sentences, save_tiny_model
from workers.edits import job as edit_job
from workers.edits.progress import STAGES, EditProgress, stages_of_proof
from workers.running import lease_keeper
from workers.running.runtime import Runtime

SCOPES = ("audit:read", "audit:write", "edit:read", "edit:write")
# Those of every edit by K-FAC, and each method's own.
PROOF = {"prefix_tokens": 16, "suffix_tokens": 8, "stress": "full"}
REACHED = dict.fromkeys(
    (*STAGES, *stages_of_proof(EditEvaluation(**PROOF, reference_model="mdl_1"))), "kfac"
) | {stage: method.name for method in reversed(METHODS.values()) for stage in method.stages}


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return settings_with_models(database_url, broker_url, tmp_path)


def text_lists() -> list[list[dict[str, str]]]:
    """Texts for a set that is learnt from and measured, and for one to retain."""
    texts = [{"text": sentence[:200]} for sentence in english_sentences()[:16]]
    return [texts[:12], texts[12:]]


async def request_edit(
    client: httpx.AsyncClient,
    runtime: Runtime,
    model: Path,
    method: str,
    name: str = "never",
    *,
    searches: bool = True,
) -> str:
    """An edit that waits for a worker; its language model and what it is compared with are validated.

    What a search has trained is not trained again: one that does not search recovers in a stage of its own.
    """
    ids = []
    for directory in (model, save_tiny_model(model.parent / "reference", seed=1)):
        source = {"source": {"type": "path", "path": str(directory)}}
        key = {"Idempotency-Key": uuid4().hex}
        answer = await client.post("/v1/models", json=source, headers=key)
        ids.append(answer.json()["id"])
        if answer.json()["status"] == "queued":
            await asyncio.to_thread(run_next, runtime)
    text_set, retained = [
        (await client.post("/v1/text-sets", json={"name": "texts", "texts": texts})).json()["id"]
        for texts in text_lists()
    ]
    body: dict[str, Any] = {
        "model": ids[0],
        "name": name,
        "method": method,
        "layers": [0, 1],
        "calibration_text_set": text_set,
        "forget_text_set": text_set,
        "evaluation": {**PROOF, "reference_model": ids[1]},
    }
    if method == "kfac":
        body |= {"retain_text_set": retained, "recovery": {"steps": 2}, "keep_mass": 0.9}
        if searches:
            body |= {"sweep": {"keep_mass": [0.9, 1.0]}, "constraint": {"max_perplexity_increase": 100}}
    answer = await client.post("/v1/edits", json=body, headers={"Idempotency-Key": uuid4().hex})
    assert answer.status_code == 202, answer.text
    edit_id: str = answer.json()["id"]
    return edit_id


def weights_in_memory(runtime: Runtime) -> str:
    with runtime.sessions() as session:
        rows = session.query(LanguageModel).order_by(LanguageModel.id).all()
    digest = hashlib.sha256()
    for row in rows:
        for parameter in runtime.models.get(row, "float32").model.parameters():
            digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("stage", REACHED)
async def test_cancel_in_a_stage_leaves_nothing(
    client: httpx.AsyncClient,
    app: Any,
    settings: Settings,
    runtime: Runtime,
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stage: str,
) -> None:
    key = make_key(settings, scopes=SCOPES)
    with runtime.sessions() as session:
        principal = find_principal(session, key)
    assert principal is not None
    reached = []

    class Cancelling(EditProgress):
        def enter(self, entered: str) -> None:
            super().enter(entered)
            if entered == stage:
                reached.append(entered)
                with runtime.sessions.begin() as session:
                    cancel_operation(session, Edit, principal.tenant_id, edit_uuid)

    monkeypatch.setattr(edit_job, "EditProgress", Cancelling)
    model = save_tiny_model(tmp_path / "model")
    async with client_of(app, key) as editor:
        searches = stage != "recovering"
        edit_id = await request_edit(editor, runtime, model, REACHED[stage], searches=searches)
        edit_uuid = UUID(hex=edit_id.removeprefix("edt_"))
        before = await asyncio.to_thread(weights_in_memory, runtime)
        await asyncio.to_thread(run_next, runtime)
        ended = (await editor.get(f"/v1/edits/{edit_id}")).json()
    # Curvature is collected of two text sets.
    assert set(reached) == {stage}
    assert ended["status"] == "cancelled"
    assert ended["artifact"] is ended["edited_model"] is ended["receipt"] is None
    assert await asyncio.to_thread(weights_in_memory, runtime) == before
    counted = database.execute(
        "SELECT (SELECT count(*) FROM artifacts), (SELECT count(*) FROM audits), "
        "(SELECT count(*) FROM language_models), "
        "(SELECT string_agg(state, ',') FROM jobs WHERE edit_id IS NOT NULL)"
    ).fetchone()
    assert counted == (0, 0, 2, JobState.CANCELLED)
    assert not list((settings.home / "edits").iterdir())


async def test_a_lease_lost_before_the_commit_commits_nothing(
    client: httpx.AsyncClient,
    app: Any,
    settings: Settings,
    runtime: Runtime,
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Another worker has claimed the job while this one slept: its epoch is a later one."""

    def overtaken(*_: Any) -> None:
        with runtime.sessions.begin() as session:
            session.execute(update(Job).where(Job.edit_id.is_not(None)).values(epoch=Job.epoch + 1))

    monkeypatch.setattr(edit_job, "write_receipt_and_card", overtaken)
    monkeypatch.setattr(lease_keeper, "_LOOK_SECONDS", 60.0)  # only the commit can tell: no look comes before
    model = save_tiny_model(tmp_path / "model")
    async with client_of(app, make_key(settings, scopes=SCOPES)) as editor:
        edit_id = await request_edit(editor, runtime, model, "kfac")
        await asyncio.to_thread(run_next, runtime)
        edit = (await editor.get(f"/v1/edits/{edit_id}")).json()
    assert edit["status"] == "running"
    assert edit["artifact"] is edit["frontier"] is None
    counted = database.execute(
        "SELECT (SELECT count(*) FROM artifacts), (SELECT count(*) FROM audits), "
        "(SELECT state FROM jobs WHERE edit_id IS NOT NULL)"
    ).fetchone()
    assert counted == (0, 0, JobState.RUNNING)


async def test_an_edit_removes_what_ended_ones_left_and_nothing_of_others(
    client: httpx.AsyncClient, app: Any, settings: Settings, runtime: Runtime, tmp_path: Path
) -> None:
    workplaces = settings.home / "edits"
    model = save_tiny_model(tmp_path / "model")
    async with client_of(app, make_key(settings, scopes=SCOPES)) as editor:
        first = await request_edit(editor, runtime, model, "kfac")
        waiting = await request_edit(editor, runtime, model, "svd", name="waiting")
        others = workplaces / f"{UUID(hex=waiting.removeprefix('edt_')).hex}-1"
        for left in (others, workplaces / f"{'0' * 32}-3"):
            left.mkdir(parents=True)
        await asyncio.to_thread(run_next, runtime)
        assert (await editor.get(f"/v1/edits/{first}")).json()["status"] == "succeeded"
    assert list(workplaces.iterdir()) == [others]
