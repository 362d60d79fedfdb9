"""Presets are imported by a worker from a hub; audits of them wait for that as for their language model."""

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from huggingface_hub import constants
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.contracts.catalogue import TEXT_SET_PRESETS
from app.settings import Settings
from app.store.core.identifiers import Prefix, parse_id
from app.store.jobs.claiming import claim
from app.store.jobs.kinds import IMPORT_TEXT_SET
from tests.hub_server import DATA_COMMIT, REPOSITORY, hub
from tests.hubble_rows import ROWS, row, write_data_set
from tests.live_service import fresh_key
from tests.own_worker import run_next
from tests.tiny_models import save_tiny_model
from workers.running.runtime import Runtime, make_runtime

JSONObject = dict[str, Any]
WIKIPEDIA = "hubble/wikipedia"
PASSAGES = [row(f"Passage {number} of an article about rivers.", 4**number) for number in range(4)]
COMMIT = "1" * 40
MODEL = {"type": "hub", "repo": REPOSITORY}
PROBLEMS = "https://memaudit.dev/problems/"
Serve = Callable[..., None]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def serve(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Run a hub with the language model and, if rows are given, the data set of a preset."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with ExitStack() as running:

        def start(rows: list[JSONObject] | None = None, preset: str = WIKIPEDIA, **refusals: int) -> None:
            data_sets = {} if rows is None else write_data_set(tmp_path / "data", preset, rows)
            served: AbstractContextManager[str] = hub(
                {COMMIT: checkpoint}, {"main": COMMIT}, refusals=refusals, data_sets=data_sets
            )
            endpoint = running.enter_context(served)
            files = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(constants, "ENDPOINT", endpoint)
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)

        yield start


async def post(client: httpx.AsyncClient, path: str, body: JSONObject) -> httpx.Response:
    return await client.post(path, json=body, headers=fresh_key())


async def request(client: httpx.AsyncClient, path: str, body: JSONObject) -> JSONObject:
    response = await post(client, path, body)
    assert response.status_code == 202, response.text
    return dict(response.json())


async def read(client: httpx.AsyncClient, path: str) -> JSONObject:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def request_audit(client: httpx.AsyncClient, **body: Any) -> JSONObject:
    return await request(client, "/v1/audits", {"model": MODEL, "preset": WIKIPEDIA, **body})


async def test_one_request_audits_a_preset(client: httpx.AsyncClient, runtime: Runtime, serve: Serve) -> None:
    serve(PASSAGES)
    audit = await request_audit(client, metrics=["nl", "extraction"])
    assert (audit["progress"]["total"], audit["digests"]["text_set"]) == (0, None)
    text_set = await read(client, f"/v1/text-sets/{audit['text_set']}")
    assert (text_set["status"], text_set["preset"], text_set["hmac_sha256"]) == ("importing", WIKIPEDIA, None)
    kinds = [await asyncio.to_thread(run_next, runtime) for _ in range(5)]
    assert sorted(kinds[:2]) == ["import_text_set", "validate_language_model"]
    assert kinds[2:] == ["plan_audit", "score_shard", "summarize_audit"]
    audit = await read(client, f"/v1/audits/{audit['id']}")
    assert audit["status"] == "succeeded", audit["error"]
    text_set = await read(client, f"/v1/text-sets/{audit['text_set']}")
    assert (text_set["status"], text_set["revision"], text_set["text_count"]) == ("ready", DATA_COMMIT, 4)
    assert audit["digests"]["text_set"] == text_set["hmac_sha256"]
    scores = (await read(client, f"/v1/audits/{audit['id']}/scores"))["data"]
    assert [(score["duplicates"], score["group"]) for score in scores] == [
        (4**number, "copyright/wikipedia") for number in range(4)
    ]
    assert all(score["nl"] < 0 for score in scores)
    # Another audit of the preset takes what is there.
    again = await request_audit(client)
    assert again["text_set"] == audit["text_set"]
    assert again["progress"]["total"] == 4


async def test_an_import_is_what_an_upload_of_the_same_texts_would_be(
    client: httpx.AsyncClient, runtime: Runtime, serve: Serve
) -> None:
    serve(PASSAGES)
    body = {"preset": WIKIPEDIA, "name": "rivers", "metadata": {"of": "mine"}}
    imported = await request(client, "/v1/text-sets", body)
    assert await asyncio.to_thread(run_next, runtime) == "import_text_set"
    imported = await read(client, f"/v1/text-sets/{imported['id']}?wait=5")
    texts = [
        {
            "text": passage["text"],
            "duplicates": 4**number,
            "group": "copyright/wikipedia",
            "member": True,
        }
        for number, passage in enumerate(PASSAGES)
    ]
    uploaded = (await client.post("/v1/text-sets", json={"name": "rivers", "texts": texts})).json()
    same = ("name", "hmac_sha256", "text_count", "byte_count", "group_counts", "duplicate_counts")
    assert {field: imported[field] for field in same} == {field: uploaded[field] for field in same}
    assert imported["metadata"] == {"of": "mine"}
    pages = [await read(client, f"/v1/text-sets/{each['id']}/texts") for each in (imported, uploaded)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*PASSAGES, {"text": "a secret", "facts": "{}"}], "a row has no meta"),
        ([{"text": "a secret", "meta": '{"duplicates": "a secret"}'}], "a row has no meta.duplicates"),
        ([], "at least one text"),
        ([row("a secret\0", 1)], "/lines/1/text: nul_character"),
    ],
)
async def test_data_that_has_changed_fails_the_audit_and_says_where(
    client: httpx.AsyncClient, runtime: Runtime, serve: Serve, rows: list[JSONObject], said: str
) -> None:
    serve(rows)
    audit = await request_audit(client)
    while await asyncio.to_thread(run_next, runtime) != IMPORT_TEXT_SET.name:
        pass
    audit = await read(client, f"/v1/audits/{audit['id']}")
    text_set = await read(client, f"/v1/text-sets/{audit['text_set']}")
    assert (audit["status"], text_set["status"]) == ("failed", "failed")
    assert audit["error"] == text_set["error"]
    assert audit["error"]["type"] == PROBLEMS + "import-failed"
    assert said in audit["error"]["detail"]
    assert "secret" not in json.dumps(audit)
    # It is not taken for the next audit of the preset.
    assert (await request_audit(client))["text_set"] != audit["text_set"]
    assert (await post(client, "/v1/audits", {"model": MODEL, "text_set": text_set["id"]})).status_code == 409


async def test_a_file_that_cannot_be_unpacked_fails_the_import(
    client: httpx.AsyncClient, runtime: Runtime, serve: Serve, tmp_path: Path
) -> None:
    serve(PASSAGES)
    file = tmp_path / "data" / TEXT_SET_PRESETS[WIKIPEDIA].file
    for content in (b"no gzip", gzip.compress(b'{"text": "cut off"}' * 1000)[:-20]):
        file.write_bytes(content)
        text_set = await request(client, "/v1/text-sets", {"preset": WIKIPEDIA})
        await asyncio.to_thread(run_next, runtime)
        error = (await read(client, f"/v1/text-sets/{text_set['id']}"))["error"]
        assert "cannot be unpacked" in error["detail"]


async def test_a_file_that_is_too_large_fails_the_import(
    client: httpx.AsyncClient, settings: Settings, serve: Serve
) -> None:
    serve(PASSAGES)
    text_set = await request(client, "/v1/text-sets", {"preset": WIKIPEDIA})
    small = make_runtime(settings.model_copy(update={"max_upload_bytes": 100}))
    await asyncio.to_thread(run_next, small)
    small.sessions.kw["bind"].dispose()
    error = (await read(client, f"/v1/text-sets/{text_set['id']}"))["error"]
    assert "MEMAUDIT_MAX_UPLOAD_BYTES" in error["detail"]


async def test_a_hub_that_has_no_such_data_or_may_not_be_asked_is_a_clear_problem(
    client: httpx.AsyncClient, runtime: Runtime, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(PASSAGES)
    (tmp_path / "data" / TEXT_SET_PRESETS[WIKIPEDIA].file).rename(tmp_path / "data" / "other.jsonl.gz")
    expected = {WIKIPEDIA: "has no file passages_wikipedia", "hubble/mmlu": "no such repository"}
    for preset, said in expected.items():
        text_set = await request(client, "/v1/text-sets", {"preset": preset})
        await asyncio.to_thread(run_next, runtime)
        error = (await read(client, f"/v1/text-sets/{text_set['id']}"))["error"]
        assert (error["type"], error["status"]) == (PROBLEMS + "import-failed", 422)
        assert said in error["detail"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    audit = await request_audit(client)
    for _ in range(2):
        await asyncio.to_thread(run_next, runtime)
    audit = await read(client, f"/v1/audits/{audit['id']}")
    assert audit["status"] == "failed"
    assert "HF_HUB_OFFLINE" in audit["error"]["detail"]


async def test_a_hub_that_is_away_is_waited_for(
    client: httpx.AsyncClient, runtime: Runtime, serve: Serve, database: psycopg.Connection
) -> None:
    serve(PASSAGES, main=503)
    audit = await request_audit(client, model=MODEL | {"revision": COMMIT})
    kinds = {await asyncio.to_thread(run_next, runtime) for _ in range(2)}
    assert kinds == {"import_text_set", "validate_language_model"}
    assert (await read(client, f"/v1/models/{audit['model']}"))["status"] == "ready"
    assert database.execute("SELECT kind FROM jobs WHERE state = 'queued'").fetchall() == [
        ("import_text_set",)
    ]
    text_set = f"/v1/text-sets/{audit['text_set']}"
    for resource in (text_set, f"/v1/audits/{audit['id']}"):
        waiting = (await read(client, resource))["waiting"]
        assert waiting["reason"]["type"] == PROBLEMS + "hub-unreachable"
    assert all(each["waiting"] for each in (await read(client, "/v1/text-sets"))["data"])
    serve(PASSAGES)
    database.execute("UPDATE jobs SET available_at = clock_timestamp()")
    assert await asyncio.to_thread(run_next, runtime) == "import_text_set"
    assert (await read(client, text_set))["status"] == "ready"
    assert await asyncio.to_thread(run_next, runtime) == "plan_audit"


async def test_whichever_is_ready_last_starts_the_audit(
    client: httpx.AsyncClient,
    runtime: Runtime,
    serve: Serve,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
) -> None:
    """Also when both end at once: the second is held up until the first is committed."""
    serve(PASSAGES)
    audit = await request_audit(client)
    rows = "SELECT count(*) FROM jobs WHERE kind = 'plan_audit'"
    with sessions() as held:
        # What the end of the other one locks before it looks.
        held.execute(text("SELECT id FROM audits FOR NO KEY UPDATE"))
        both = [asyncio.create_task(asyncio.to_thread(run_next, runtime)) for _ in range(2)]
        await asyncio.sleep(1)
        assert not any(task.done() for task in both)
        held.rollback()
        await asyncio.gather(*both)
    assert database.execute(rows).fetchone() == (1,)
    assert await asyncio.to_thread(run_next, runtime) == "plan_audit"
    assert (await read(client, f"/v1/audits/{audit['id']}"))["progress"]["total"] == 4


async def test_what_is_importing_is_refused_where_texts_are_needed_and_can_be_erased(
    client: httpx.AsyncClient,
    editor: httpx.AsyncClient,
    runtime: Runtime,
    serve: Serve,
    sessions: sessionmaker[Session],
) -> None:
    serve(PASSAGES)
    text_set = await request(client, "/v1/text-sets", {"preset": WIKIPEDIA})
    path = f"/v1/text-sets/{text_set['id']}"
    refused = await client.get(f"{path}/texts")
    assert (refused.status_code, refused.json()["type"]) == (409, PROBLEMS + "text-set-not-ready")
    edit = {"model": MODEL, "method": "svd", "name": "edited", "calibration_text_set": text_set["id"]}
    assert (await post(editor, "/v1/edits", edit)).json()["type"] == PROBLEMS + "text-set-not-ready"
    audit = await request_audit(client)
    assert audit["text_set"] == text_set["id"]
    assert (await client.delete(path)).status_code == 409
    await client.post(f"/v1/audits/{audit['id']}/cancel")
    with sessions.begin() as session:
        lease = claim(session, queue="cpu", worker="w", lease_seconds=60)
    assert lease is not None
    assert lease.owner_id == parse_id(Prefix.TEXT_SET, text_set["id"])
    receipt = await client.delete(path)
    assert (receipt.status_code, receipt.json()["hmac_sha256"]) == (200, None)
    assert (await client.get(path)).status_code == 404
    with sessions.begin() as session:
        assert claim(session, queue="cpu", worker="w", lease_seconds=60) is None


async def test_presets_are_listed_and_read(client: httpx.AsyncClient) -> None:
    listed = (await read(client, "/v1/presets"))["data"]
    assert len(listed) == 17 + 23
    names = {preset["name"]: preset for preset in listed}
    assert len(names) == len(listed)
    assert await read(client, f"/v1/presets/{WIKIPEDIA}") == names[WIKIPEDIA]
    model = await read(client, "/v1/presets/hubble/1b-100b_toks-perturbed")
    assert model["source"] == {
        "type": "hub",
        "repo": "allegrolab/hubble-1b-100b_toks-perturbed-hf",
        "revision": "step48000",
    }
    assert (await client.get("/v1/presets/hubble/nothing")).status_code == 404
    assert names.keys() >= ROWS.keys()


@pytest.mark.parametrize(
    ("texts", "pointer", "code"),
    [
        ({}, "", "text_set_or_preset"),
        ({"text_set": "txs_1", "preset": WIKIPEDIA}, "", "text_set_or_preset"),
        ({"preset": "hubble/nothing"}, "/preset", "unknown_preset"),
    ],
)
async def test_an_audit_names_a_text_set_or_a_preset(
    client: httpx.AsyncClient, texts: JSONObject, pointer: str, code: str
) -> None:
    refused = await post(client, "/v1/audits", {"model": MODEL, **texts})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"pointer": pointer, "code": code}]


async def test_two_audits_of_a_preset_at_once_import_it_once(client: httpx.AsyncClient, serve: Serve) -> None:
    serve(PASSAGES)
    audits = await asyncio.gather(*(request_audit(client) for _ in range(4)))
    assert len({audit["text_set"] for audit in audits}) == 1


async def test_controls_that_are_importing_and_an_import_without_a_key_are_refused(
    client: httpx.AsyncClient,
) -> None:
    body = {"preset": WIKIPEDIA}
    refused = await client.post("/v1/text-sets", json=body)
    assert refused.json()["type"] == PROBLEMS + "idempotency-key-missing"
    controls = await request(client, "/v1/text-sets", body)
    audit = {"model": MODEL, "preset": "hubble/mmlu", "control_text_set": controls["id"]}
    assert (await post(client, "/v1/audits", audit)).json()["type"] == PROBLEMS + "text-set-not-ready"
