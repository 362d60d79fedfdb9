"""Studies over HTTP on a real Postgres: asked for, refused, followed, ended with their audits or by them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.errors import JobCrashed
from app.settings import Settings
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.jobs.owners import AUDIT
from app.store.lifecycle import begin_operation, complete_shard, end, succeed_audit
from app.store.operations import OperationStatus
from app.store.scores import copy_scores
from app.store.tenants import Tenant
from tests.http_api import client_of, make_key, settings_with_models
from tests.integration.rows import add_ready_model, score_row
from tests.own_worker import run_next
from tests.tiny_models import english_sentences, save_reciting_model, save_tiny_model
from workers.running.runtime import Runtime

Sessions = sessionmaker[Session]
SPLIT = {"prefix_tokens": 8, "suffix_tokens": 8}


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return settings_with_models(database_url, broker_url, tmp_path)


@pytest.fixture
def sessions(settings: Settings) -> Iterator[Sessions]:
    engine = sync_engine(settings.require_database_url())
    yield sync_sessions(engine)
    engine.dispose()


@pytest.fixture
def models(client: httpx.AsyncClient, sessions: Sessions) -> list[str]:
    """The ids of three language models that are ready."""
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()
        return [format_id(Prefix.LANGUAGE_MODEL, add_ready_model(session, tenant_id).id) for _ in range(3)]


async def upload(client: httpx.AsyncClient, name: str, texts: list[dict[str, Any]]) -> str:
    answer = await client.post("/v1/text-sets", json={"name": name, "texts": texts})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
async def text_set(client: httpx.AsyncClient) -> str:
    return await upload(client, "set", [{"text": f"text {number}"} for number in range(10)])


def named(models: list[str], **more: Any) -> list[dict[str, Any]]:
    return [{"model": model, "label": f"v{place}", **more} for place, model in enumerate(models)]


async def post(client: httpx.AsyncClient, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key or uuid4().hex}
    return await client.post("/v1/studies", json={"name": "ours", **body}, headers=headers)


async def accepted(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await post(client, **body)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def read(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_study_is_accepted_with_an_audit_for_each_model_and_once_for_each_key(
    client: httpx.AsyncClient, models: list[str], text_set: str
) -> None:
    body = {
        "kind": "trajectory",
        "text_set": text_set,
        "models": [
            {"model": model, "label": label, "step": step}
            for model, label, step in zip(models, "cab", (300, 100, 200), strict=True)
        ],
        "metadata": {"run": 7},
    }
    answer = await post(client, key="once", **body)
    assert answer.status_code == 202, answer.text
    study = answer.json()
    assert answer.headers["Location"] == f"/v1/studies/{study['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert (study["object"], study["status"], study["kind"]) == ("study", "queued", "trajectory")
    assert [(each["label"], each["step"]) for each in study["models"]] == [("a", 100), ("b", 200), ("c", 300)]
    assert study["progress"] == {"done": 0, "total": 30, "unit": "texts"}
    assert (study["result"], study["control_text_set"]) == (None, None)
    for each in study["models"]:
        audit = await read(client, f"/v1/audits/{each['audit']}")
        assert (audit["model"], audit["text_set"]) == (each["model"], text_set)
        assert audit["companion_of"] == [study["id"]]
    assert (await read(client, "/v1/audits?companions=false"))["data"] == []
    assert len((await read(client, "/v1/audits"))["data"]) == 3
    assert (await post(client, key="once", **body)).json() == study
    assert (await post(client, key="once", **body | {"metadata": {}})).status_code == 422
    assert await read(client, f"/v1/studies/{study['id']}") == study
    second = await accepted(client, kind="pair", text_set=text_set, models=named(models[:2]))
    page = await read(client, "/v1/studies?limit=1")
    assert ([each["id"] for each in page["data"]], page["has_more"]) == ([second["id"]], True)
    following = await read(client, f"/v1/studies?limit=1&cursor={page['next_cursor']}")
    assert following["data"] == [study]
    for query, found in (
        (f"model={models[2]}", [study["id"]]),
        (f"text_set={text_set}", [second["id"], study["id"]]),
        ("metadata[run]=7", [study["id"]]),
        ("status=succeeded", []),
    ):
        assert [each["id"] for each in (await read(client, f"/v1/studies?{query}"))["data"]] == found, query


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"kind": "pair"}, "pair_of_two"),
        ({"models": [{"model": "m", "label": "a"}] * 2}, "label_twice"),
        (
            {"kind": "release", "models": [{"model": "m", "label": x, "step": 1} for x in "ab"]},
            "step_of_trajectory",
        ),
        ({"models": [{"model": "m", "label": "a", "step": 1}, {"model": "m", "label": "b"}]}, "step_missing"),
        ({"models": [{"model": "m", "label": x, "step": 1} for x in "ab"]}, "step_twice"),
        ({"models": [{"model": "m", "label": "a"}]}, "too_short"),
        ({"control_text_set": "txs_x"}, "controls_of_release"),
    ],
)
async def test_what_cannot_be_compared_is_refused(
    client: httpx.AsyncClient, change: dict[str, Any], code: str
) -> None:
    body = {"kind": "trajectory", "text_set": "txs_x", "models": [{"model": "m", "label": x} for x in "abc"]}
    answer = await post(client, **body | change)
    assert answer.status_code == 422
    assert [error["code"] for error in answer.json()["errors"]] == [code]


async def test_a_study_is_of_what_the_tenant_has_and_the_key_allows(
    client: httpx.AsyncClient,
    app: FastAPI,
    settings: Settings,
    models: list[str],
    text_set: str,
    tmp_path: Path,
) -> None:
    body = {"kind": "pair", "text_set": text_set, "models": named(models[:2])}
    study = await accepted(client, **body)
    path = f"/v1/studies/{study['id']}"
    async with client_of(app, make_key(settings, tenant="other")) as other:
        for method, where in (
            ("GET", path),
            ("GET", f"{path}/events"),
            ("GET", f"{path}/texts"),
            ("POST", f"{path}/cancel"),
        ):
            assert (await other.request(method, where)).status_code == 404
        assert (await read(other, "/v1/studies"))["data"] == []
        assert (await post(other, **body)).status_code == 404
    async with client_of(app, make_key(settings, scopes=("audit:read",))) as reader:
        assert (await post(reader, **body)).status_code == 403
        assert (await reader.get(path)).status_code == 200
    twice = await post(client, **body | {"models": [*named(models[:1]), {"model": models[0], "label": "x"}]})
    assert twice.status_code == 422
    assert twice.json()["errors"] == [{"pointer": "/models/1/model", "code": "model_twice"}]
    outside = {"type": "path", "path": "/etc"}
    refused = await post(client, **body | {"models": [*named(models[:1]), {"model": outside, "label": "x"}]})
    assert refused.json()["errors"][0]["pointer"] == "/models/1/model/path"


def audit_of(session: Session, study: dict[str, Any], place: int) -> Audit:
    return session.get_one(Audit, parse_id(Prefix.AUDIT, study["models"][place]["audit"]))


async def test_the_controls_of_a_release_are_other_texts(
    client: httpx.AsyncClient, models: list[str], text_set: str
) -> None:
    again = await upload(client, "again", [{"text": f"text {number}"} for number in range(10)])
    for controls in (text_set, again):
        answer = await post(
            client, kind="release", text_set=text_set, control_text_set=controls, models=named(models)
        )
        assert answer.status_code == 422
        assert answer.json()["errors"] == [{"pointer": "/control_text_set", "code": "same_as_text_set"}]


async def test_a_study_begins_with_its_first_audit_and_fails_with_one(
    client: httpx.AsyncClient, sessions: Sessions, models: list[str], text_set: str
) -> None:
    study = await accepted(client, kind="release", text_set=text_set, models=named(models))
    path = f"/v1/studies/{study['id']}"
    with sessions.begin() as session:
        first = audit_of(session, study, 0)
        begin_operation(session, Audit, first.id, "d" * 64)
        complete_shard(session, first.id, 10)
    begun = await read(client, path)
    assert (begun["status"], begun["progress"]["done"]) == ("running", 10)
    assert (await client.get(f"{path}/texts")).status_code == 409
    assert begun["started_at"] is not None
    waiting = asyncio.create_task(client.get(f"{path}?wait=30"))
    await asyncio.sleep(0.2)
    with sessions.begin() as session:
        problem = JobCrashed("It crashed.").problem()
        end(session, AUDIT, audit_of(session, study, 1).id, OperationStatus.FAILED, error=problem)
    failed = (await waiting).json()
    assert (failed["status"], failed["result"]) == ("failed", None)
    assert "It crashed." in failed["error"]["detail"]
    assert failed["error"]["status"] == 424
    statuses = [(await read(client, f"/v1/audits/{each['audit']}"))["status"] for each in study["models"]]
    assert statuses == ["cancelled", "failed", "cancelled"]


async def test_a_cancelled_study_ends_its_open_audits_and_keeps_those_that_have_ended(
    client: httpx.AsyncClient, sessions: Sessions, models: list[str], text_set: str
) -> None:
    study = await accepted(client, kind="pair", text_set=text_set, models=named(models[:2]))
    with sessions.begin() as session:
        succeed_audit(session, audit_of(session, study, 0).id, {})
    path = f"/v1/studies/{study['id']}"
    cancelled = await client.post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert (await client.post(f"{path}/cancel")).status_code == 409
    statuses = [(await read(client, f"/v1/audits/{each['audit']}"))["status"] for each in study["models"]]
    assert statuses == ["succeeded", "cancelled"]
    events = await client.get(f"{path}/events")
    assert events.text.count("event: cancelled") == 1


async def run_until_ended(client: httpx.AsyncClient, runtime: Runtime, path: str) -> dict[str, Any]:
    kinds = []
    while (study := await read(client, path))["status"] in {"queued", "running"}:
        kinds.append(await asyncio.to_thread(run_next, runtime))
    assert kinds[-1] == "finish_study", kinds
    assert kinds.count("finish_study") == 1
    return study


async def test_a_pair_of_tiny_models_is_audited_and_compared(
    client: httpx.AsyncClient, runtime: Runtime, tmp_path: Path
) -> None:
    """The oracle is the scores of its two audits."""
    sentences = [sentence[:120] for sentence in english_sentences()[:8]]
    save_tiny_model(tmp_path / "standard")
    save_reciting_model(tmp_path / "perturbed", sentences[:4], steps=100)
    texts = [
        {"id": f"t{place}", "text": text, "duplicates": 64 if place < 4 else 0, "group": "g"}
        for place, text in enumerate(sentences)
    ]
    sources = [{"type": "path", "path": str(tmp_path / name)} for name in ("standard", "perturbed")]
    study = await accepted(
        client,
        kind="pair",
        text_set=await upload(client, "texts", texts),
        models=[{"model": source, "label": label} for source, label in zip(sources, "sp", strict=True)],
        metrics=["nl", "extraction"],
        options=SPLIT,
    )
    ended = await run_until_ended(client, runtime, f"/v1/studies/{study['id']}")
    assert (ended["status"], ended["error"]) == ("succeeded", None), ended["error"]
    assert ended["progress"] == {"done": 16, "total": 16, "unit": "texts"}
    scores = [(await read(client, f"/v1/audits/{each['audit']}/scores"))["data"] for each in ended["models"]]
    nl = np.array([[score["nl"] for score in audit] for audit in scores])
    strict = np.array([[score["extraction"]["strict"] for score in audit] for audit in scores])
    path = f"/v1/studies/{study['id']}/texts"
    first = await read(client, f"{path}?limit=5")
    second = await read(client, f"{path}?limit=5&cursor={first['next_cursor']}")
    assert (len(first["data"]), first["has_more"], second["has_more"]) == (5, True, False)
    listed = first["data"] + second["data"]
    assert [(each["text_id"], each["nl"], each["strict"]) for each in listed] == [
        (f"t{place}", nl[:, place].tolist(), strict[:, place].tolist()) for place in range(8)
    ]
    for cursor in ("x", "WyJhIl0", "Wy0xXQ", "WzIxNDc0ODM2NDdd"):  # none, ["a"], [-1], [2147483647]
        assert (await client.get(f"{path}?cursor={cursor}")).status_code == 422
    (found,) = ended["result"]["comparisons"]
    by_level = {(each["group"], each["duplicates"]): each for each in found["levels"]}
    assert set(by_level) == {(g, d) for g in (None, "g") for d in (None, 0, 64)}
    assert by_level[None, None]["difference"]["mean"] == pytest.approx((nl[1] - nl[0]).mean())
    inserted = by_level["g", 64]
    assert inserted["difference"]["mean"] == pytest.approx((nl[1] - nl[0])[:4].mean())
    assert inserted["difference"]["low"] > 0
    assert inserted["transitions"]["gained"] == (strict[1] & ~strict[0])[:4].sum() > 0
    assert [model["label"] for model in ended["result"]["models"]] == ["s", "p"]
    assert ended["result"]["curves"] is ended["result"]["changes"] is None


@pytest.mark.parametrize("controlled", [True, False], ids=["with controls", "without controls"])
async def test_a_release_names_the_texts_that_it_newly_memorized(
    client: httpx.AsyncClient, sessions: Sessions, runtime: Runtime, models: list[str], controlled: bool
) -> None:
    """Versions whose scores are written by hand: ten of sixty texts rise from the second to the third."""
    random = np.random.default_rng(0)
    sentences = [sentence[:80] for sentence in english_sentences()[:120]]
    order = random.permutation(120)
    audited, controls = (
        [{"id": f"t{i}", "text": sentences[i]} for i in half] for half in (order[:60], order[60:])
    )
    # One control is an audited text too, and is left out.
    controls.append({"id": "shared", "text": audited[0]["text"]})
    controlled_by = {"control_text_set": await upload(client, "controls", controls)} if controlled else {}
    study = await accepted(
        client,
        kind="release",
        text_set=await upload(client, "texts", audited),
        models=named(models),
        options={"fdr": 0.1},
        **controlled_by,
    )
    first = random.normal(-3, 0.7, 121)
    with sessions.begin() as session:
        for place, each in enumerate(study["models"]):
            nl = first + 0.1 * place + random.normal(0, 0.05, 121)
            nl[:10] += 2.0 * (place == 2)
            texts = {each["audit"]: (audited, nl[:60]), each["control_audit"]: (controls, nl[60:])}
            for audit, (some, numbers) in texts.items():
                if audit is None:
                    continue
                identifier = parse_id(Prefix.AUDIT, audit)
                assert identifier is not None
                rows = zip(some, numbers.tolist(), strict=True)
                copy_scores(
                    session,
                    (
                        score_row(identifier, ordinal, number, text_id=text["id"])
                        for ordinal, (text, number) in enumerate(rows)
                    ),
                )
                succeed_audit(session, identifier, {})
    ended = await run_until_ended(client, runtime, f"/v1/studies/{study['id']}")
    assert (ended["status"], ended["error"]) == ("succeeded", None), ended["error"]
    changes = {(each["from_label"], each["to_label"]): each for each in ended["result"]["changes"]}
    assert list(changes) == [("v0", "v1"), ("v0", "v2"), ("v1", "v2")]
    if not controlled:
        assert {each["verdict"] for each in changes.values()} == {"uncalibrated"}
        assert {each["reason"] for each in changes.values()} == {"no_controls"}
        return
    assert {each["verdict"] for each in changes.values()} == {"calibrated"}
    shared = sum(text["text"] in {each["text"] for each in audited} for text in controls)
    assert shared >= 1
    for each in changes.values():
        assert each["rise"]["n_controls"] == len(controls) - shared
        assert each["rise"]["controls_among_texts"] == shared
    risen = {text["id"] for text in audited[:10]}
    for labels, newly in ((("v0", "v1"), set()), (("v0", "v2"), risen), (("v1", "v2"), risen)):
        named_texts = {text["text_id"] for text in changes[labels]["newly_memorized"]["texts"]}
        assert newly <= named_texts
        assert len(named_texts - newly) <= 2
