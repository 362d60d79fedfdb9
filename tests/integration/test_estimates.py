"""Dry runs: what they say given some measurements, that they write nothing, and what is refused for memory.

Oracle: arithmetic by hand on the numbers that were put into the tables.
"""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings
from app.store.core.base import Base
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.keyed_digests import digest_of
from app.store.language_models import LanguageModel
from app.store.operations import OperationStatus
from app.store.tenants import Tenant
from app.store.text_sets import TextSet
from app.store.throughput import (
    Machine,
    MeasuredJob,
    Throughput,
    WorkerClass,
    add_measurement,
    announce,
    most_memory_lately,
    with_recent_classes,
)
from tests.http_api import client_of, make_key
from tests.integration.rows import add_audit_rows, add_ready_model
from tests.own_worker import run_next
from tests.tiny_models import save_tiny_model
from workers.running.machine import this_machine
from workers.running.runtime import Runtime
from workers.running.throughput import record
from workers.science.models.description import describe_checkpoint

GIB = 2**30
SMALL = Machine(name="small", device="processor", threads=2, memory_bytes=4 * GIB)
LARGE = Machine(name="large", device="GPU", threads=0, memory_bytes=80 * GIB)
SCOPES = ("audit:read", "audit:write", "edit:read", "edit:write")
PARAMETERS = 1_000_000_000
DRY = {"dry_run": True}


@pytest.fixture
async def client(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, make_key(settings, scopes=SCOPES)) as client:
        yield client


@pytest.fixture
async def text_set(client: httpx.AsyncClient) -> str:
    """Ten texts of 400 bytes."""
    return await upload(client, 10)


@pytest.fixture
def model(client: httpx.AsyncClient, sessions: sessionmaker[Session]) -> str:
    """A billion parameters that nothing was measured of."""
    with sessions.begin() as session:
        row = add_ready_model(session, session.scalars(select(Tenant.id)).one())
        row.parameter_count, row.vocabulary_size = PARAMETERS, 50_000
        row.dimensions = {"hidden": 2048, "intermediate": 8192, "layers": 16}
        return format_id(Prefix.LANGUAGE_MODEL, row.id)


async def upload(client: httpx.AsyncClient, count: int) -> str:
    texts = [{"text": f"{number:04}" * 100} for number in range(count)]
    answer = await client.post("/v1/text-sets", json={"name": "texts", "texts": texts})
    return str(answer.json()["id"])


def measured(sessions: sessionmaker[Session], machine: Machine, *jobs: MeasuredJob) -> None:
    with sessions.begin() as session:
        announce(session, machine, "gpu")
        for job in jobs:
            add_measurement(session, machine, job)


def shard(units: float, seconds: float, measured: str = "nl:float32:evidence", **facts: Any) -> MeasuredJob:
    facts = {"language_model_digest": "d" * 64, "parameter_count": PARAMETERS} | facts
    return MeasuredJob(kind="score_shard", units=units, seconds=seconds, measured=measured, **facts)


def count_rows(database: psycopg.Connection) -> dict[str, int]:
    counts = {}
    for table in Base.metadata.tables:
        row = database.execute(f"SELECT count(*) FROM {table}").fetchone()
        counts[table] = 0 if row is None else row[0]
    return counts


async def estimate(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(path, params=DRY, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def bodies(model: str, text_set: str, controls: str, other: str) -> dict[str, dict[str, Any]]:
    """A request of each kind: by its path."""
    return {
        "/v1/audits": {
            "model": model,
            "text_set": text_set,
            "control_text_set": controls,
            "reference_model": {"type": "hub", "repo": "acme/new"},
        },
        "/v1/studies": {
            "name": "study",
            "kind": "pair",
            "text_set": text_set,
            "models": [{"model": model, "label": "a"}, {"model": other, "label": "b"}],
        },
        "/v1/edits": {"model": model, "method": "kfac", "name": "edited", "calibration_text_set": text_set},
    }


async def test_a_dry_run_writes_nothing_and_needs_no_key(
    client: httpx.AsyncClient,
    text_set: str,
    model: str,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
) -> None:
    with sessions.begin() as session:
        row = add_ready_model(session, session.scalars(select(Tenant.id)).one())
        row.digest, other = "f" * 64, format_id(Prefix.LANGUAGE_MODEL, row.id)
    controls = await upload(client, 3)
    before = count_rows(database)
    found = {
        path: await estimate(client, path, body)
        for path, body in bodies(model, text_set, controls, other).items()
    }
    assert count_rows(database) == before
    roles = {path: [each["role"] for each in answer["companions"]] for path, answer in found.items()}
    assert roles["/v1/audits"] == ["audit", "control", "reference", "reference_control"]
    assert roles["/v1/studies"] == ["model", "model"]
    assert sorted(roles["/v1/edits"]) == ["calibration", "clean"]
    # Each text once for each language model: 13 texts under two models, 10 under two, 10 under one.
    assert [answer["texts"] for answer in found.values()] == [26, 20, 10]
    assert [answer["jobs"] for answer in found.values()] == [4 * 3, 2 * 3 + 1, 1]
    # A token is four bytes of what was never audited.
    assert [answer["tokens"] for answer in found.values()] == [2600, 2000, 1000]
    assert found["/v1/audits"]["fits"] is None
    assert found["/v1/audits"]["memory"]["bytes_needed"] is None  # the reference is new
    for answer in found.values():
        assert answer["by_worker_class"] == []


async def test_a_dry_run_is_refused_as_the_request_would_be(
    client: httpx.AsyncClient, text_set: str, model: str, database: psycopg.Connection
) -> None:
    audit = {"model": model, "text_set": text_set}
    broken: list[tuple[str, dict[str, Any]]] = [
        ("/v1/audits", audit | {"metrics": ["no such"]}),
        ("/v1/audits", audit | {"text_set": "txs_" + "0" * 32}),
        ("/v1/audits", audit | {"control_text_set": text_set}),
        ("/v1/audits", audit | {"model": {"type": "path", "path": "/etc"}}),
        ("/v1/audits", audit | {"policy": "pol_" + "0" * 32}),
        ("/v1/studies", {"name": "s", "kind": "pair", "text_set": text_set, "models": [
            {"model": model, "label": "a"}, {"model": model, "label": "b"}]}),
        ("/v1/edits", {"model": model, "method": "kfac", "name": "e"}),
    ]  # fmt: skip
    before = count_rows(database)
    for path, body in broken:
        real = await client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        dry = await client.post(path, params=DRY, json=body)
        assert real.status_code in {404, 422}
        answers = [answer.json() | {"request_id": None} for answer in (real, dry)]
        assert (dry.status_code, answers[1]) == (real.status_code, answers[0])
    assert count_rows(database) == before
    keyless = await client.post("/v1/audits", json=audit)
    assert (keyless.status_code, keyless.json()["title"]) == (400, "Idempotency-Key is required")


async def test_seconds_are_those_of_the_nearest_like(
    client: httpx.AsyncClient, text_set: str, model: str, sessions: sessionmaker[Session]
) -> None:
    """Of 1,000 tokens in one shard, between a plan of 2 s and a summary of 3 s."""
    body = {"model": model, "text_set": text_set}
    plan = MeasuredJob(kind="plan_audit", units=0, seconds=2.0)
    summary = MeasuredJob(kind="summarize_audit", units=10, seconds=3.0)

    async def said(**fields: Any) -> tuple[float | None, str]:
        (worker,) = (await estimate(client, "/v1/audits", body | fields))["by_worker_class"]
        return worker["seconds"], worker["basis"]

    measured(sessions, LARGE, plan, summary)
    assert await said() == (None, "unknown")
    # Another model of half the size takes half as long for a token: 0.01 s, so that this one takes 0.02 s.
    other = {"language_model_digest": "f" * 64, "parameter_count": PARAMETERS // 2}
    measured(sessions, LARGE, shard(100, 1.0, **other))
    seconds, basis = await said()
    assert (seconds, basis) == (pytest.approx(2 + 1000 * 0.02 + 3), "scaled")
    # The same model with other metrics.
    measured(sessions, LARGE, shard(100, 3.0, "extraction(64,48):float32:evidence"))
    seconds, basis = await said()
    assert (seconds, basis) == (pytest.approx(2 + 1000 * 0.03 + 3), "scaled")
    # The same: jobs of 100 and 1,000 tokens on the line 0.5 + 0.005 a token. The older job counts for less,
    # which changes nothing of a line that both are on.
    measured(sessions, LARGE, shard(100, 1.0), shard(1000, 5.5))
    seconds, basis = await said()
    assert (seconds, basis) == (pytest.approx(2 + 0.5 + 1000 * 0.005 + 3), "measured")
    # 100 tokens a text: suffixes of 100·48/112 tokens, each decoded token as four.
    seconds, basis = await said(metrics=["extraction"])
    passed = 1000 + 4 * 1000 * 48 / 112
    assert (seconds, basis) == (pytest.approx(2 + passed * 0.03 + 3), "measured")
    answer = await estimate(client, "/v1/audits", body | {"metrics": ["extraction"]})
    assert answer["forward_tokens"] == round(passed)
    assert answer["forward_passes"] == pytest.approx(passed / 1000)
    # Nothing is known of the loading, nor of a class that measured nothing.
    assert answer["by_worker_class"][0]["loading_seconds"] is None
    measured(sessions, SMALL)
    answer = await estimate(client, "/v1/audits", body)
    assert [each["basis"] for each in answer["by_worker_class"]] == ["measured", "unknown"]


async def test_a_large_model_has_more_shards_on_a_processor(
    client: httpx.AsyncClient, model: str, sessions: sessionmaker[Session]
) -> None:
    """4,000 tokens of a billion parameters: one shard of a GPU, and on a processor 1,024 tokens each."""
    body = {"model": model, "text_set": await upload(client, 40)}
    measured(sessions, LARGE)
    on_gpu = (await estimate(client, "/v1/audits", body))["jobs"]
    measured(sessions, SMALL)
    on_processor = (await estimate(client, "/v1/audits", body))["jobs"]
    assert (on_gpu, on_processor) == (1 + 1 + 1, 1 + 4 + 1)


@pytest.mark.parametrize("path", ["/v1/audits", "/v1/studies", "/v1/edits"])
async def test_what_no_worker_can_hold_is_refused(
    client: httpx.AsyncClient,
    text_set: str,
    model: str,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    path: str,
) -> None:
    """In float32 the weights take 4·10⁹ bytes, a little less than 4 GiB; an edit holds them twice."""
    with sessions.begin() as session:
        row = add_ready_model(session, session.scalars(select(Tenant.id)).one())
        row.digest, other = "f" * 64, format_id(Prefix.LANGUAGE_MODEL, row.id)
    body = bodies(model, text_set, await upload(client, 3), other)[path]
    body |= {"name": "accepted"} if path == "/v1/edits" else {}

    async def ask() -> int:
        answer = await client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        if answer.status_code == 422:
            assert answer.json()["type"].endswith("/does-not-fit")
            assert "GiB" in answer.json()["detail"]
        return answer.status_code

    tiny = Machine(name="tiny", device="processor", threads=1, memory_bytes=3 * GIB)
    measured(sessions, tiny)
    before = count_rows(database)
    assert await ask() == 422
    assert count_rows(database) == before
    answer = await estimate(client, path, body)
    assert answer["by_worker_class"][0]["fits"] is (None if answer["fits"] is None else False)
    # One class that can hold it is enough, be it seen days ago; what was gone for weeks counts for nothing.
    measured(sessions, LARGE)
    assert (await estimate(client, path, body))["fits"] is not False
    database.execute(
        "UPDATE worker_classes SET last_seen_at = now() - interval '8 days' WHERE name = 'large'"
    )
    assert await ask() == 422
    database.execute("UPDATE worker_classes SET last_seen_at = now() - interval '8 days'")
    assert await ask() == 202


async def test_memory_of_an_audit_and_of_an_edit(
    client: httpx.AsyncClient, text_set: str, model: str
) -> None:
    audit = await estimate(
        client, "/v1/audits", {"model": model, "text_set": text_set, "options": {"dtype": "bfloat16"}}
    )
    logits = 50_000 * 4
    assert audit["memory"] == {
        "bytes_needed": 2 * PARAMETERS + logits,
        "weights_bytes": 2 * PARAMETERS,
        "working_bytes": logits,
    }
    edit = {"model": model, "method": "kfac", "name": "edited", "calibration_text_set": text_set}
    # 12 to 12 and 13 of 16: round(16·23/32) = 12, three layers. A [2048²] is shared by gate and up.
    factors = 3 * 4 * 3 * (2048**2 + 2 * 8192**2)
    found = (await estimate(client, "/v1/edits", edit))["memory"]
    assert found["working_bytes"] == factors
    assert found["bytes_needed"] == max(4 * PARAMETERS + factors, 8 * PARAMETERS + logits)


async def test_what_a_worker_does_is_measured(
    app: FastAPI,
    settings: Settings,
    sessions: sessionmaker[Session],
    runtime: Runtime,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """After one audit the next is known: tokens counted, seconds measured, memory from the files."""
    checkpoint = save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    source = {"type": "path", "path": str(checkpoint)}
    with sessions.begin() as session:
        announce(session, runtime.machine, "gpu")
    roots = settings.model_copy(update={"model_roots": [checkpoint.parent]})
    app.state.settings = roots
    runtime.settings.model_roots.append(checkpoint.parent)
    async with client_of(app, make_key(settings)) as client:
        texts = await upload(client, 10)
        body = {"model": source, "text_set": texts, "metrics": ["nl", "extraction"]}
        new = await estimate(client, "/v1/audits", body)
        assert (new["fits"], new["companions"][0]["tokens_basis"]) == (None, "assumed")
        answer = await client.post("/v1/audits", json=body, headers={"Idempotency-Key": "k"})
        kinds = [await asyncio.to_thread(run_next, runtime) for _ in range(4)]
        assert kinds == ["validate_language_model", "plan_audit", "score_shard", "summarize_audit"]
        audit = (await client.get(f"/v1/audits/{answer.json()['id']}")).json()
        known = await estimate(client, "/v1/audits", body)
        more = await estimate(client, "/v1/audits", body | {"text_set": await upload(client, 20)})
    tokens = audit["summary"]["tokens"]
    assert (known["tokens"], known["companions"][0]["tokens_basis"]) == (tokens, "counted")
    assert more["tokens"] == 2 * tokens
    assert more["companions"][0]["tokens_basis"] == "measured"
    assert any("evidence" in note for note in known["notes"])
    (worker,) = known["by_worker_class"]
    assert worker["basis"] == "measured"
    assert worker["loading_seconds"] > 0
    assert known["fits"] is True
    assert known["memory"]["weights_bytes"] == 4 * describe_checkpoint(checkpoint).parameter_count
    with sessions() as session:
        rows = {row.kind: row for row in session.scalars(select(Throughput))}
        model_id = parse_id(Prefix.LANGUAGE_MODEL, audit["model"])
        row = session.get_one(LanguageModel, model_id)
    assert rows.keys() == {*kinds, "load_language_model"}
    scored = rows["score_shard"]
    assert (scored.jobs, scored.language_model_digest, scored.parameter_count) == (
        1,
        row.digest,
        row.parameter_count,
    )
    assert scored.units == known["forward_tokens"]
    # What it says of the same audit is what it measured, of each of its three jobs.
    assert worker["seconds"] == pytest.approx(
        sum(rows[kind].seconds for kind in ("plan_audit", "score_shard", "summarize_audit")), rel=1e-6
    )


async def test_what_was_audited_is_known_before_an_older_releases_digest_is_keyed(
    client: httpx.AsyncClient, sessions: sessionmaker[Session]
) -> None:
    """New work writes the keyed digest of a set that the conversion has not come to yet."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, session.scalars(select(Tenant.id)).one())
        text_set = session.get_one(TextSet, audit.text_set_id)
        text_set.digest_is_keyed = None
        session.flush()
        language_model = session.get_one(LanguageModel, audit.language_model_id)
        language_model.parameter_count, language_model.vocabulary_size = PARAMETERS, 50_000
        audit.text_set_hmac_sha256 = digest_of(session, text_set)
        audit.language_model_digest = language_model.digest
        audit.status, audit.summary, audit.end_tokens = OperationStatus.SUCCEEDED, {"tokens": 123}, []
        body = {
            "model": format_id(Prefix.LANGUAGE_MODEL, language_model.id),
            "text_set": format_id(Prefix.TEXT_SET, text_set.id),
        }
    found = await estimate(client, "/v1/audits", body)
    assert (found["tokens"], found["companions"][0]["tokens_basis"]) == (123, "counted")
    assert any("evidence" in note for note in found["notes"])


def test_a_measurement_that_cannot_be_written_harms_nothing(
    sessions: sessionmaker[Session], database: psycopg.Connection, runtime: Runtime
) -> None:
    database.execute("DROP TABLE throughput")
    record(runtime.sessions, SMALL, [shard(1, 1.0)])


def test_older_jobs_count_for_less(sessions: sessionmaker[Session]) -> None:
    measured(sessions, SMALL, shard(10, 1.0), shard(10, 3.0), shard(10, 5.0))
    with sessions() as session:
        (row,) = session.scalars(select(Throughput))
    assert (row.jobs, row.seconds) == pytest.approx((0.99**2 + 0.99 + 1, 0.99**2 * 1 + 0.99 * 3 + 5))


@pytest.mark.parametrize("queue", ["gpu", "cpu"])
def test_a_machine_says_what_it_is(queue: Any, sessions: sessionmaker[Session]) -> None:
    machine = this_machine(queue)
    assert machine.memory_bytes > GIB // 4
    assert machine.threads >= 1
    with sessions.begin() as session:
        announce(session, machine, queue)
        announce(session, machine, queue)
        session.execute(update(WorkerClass).values(memory_bytes=1))
        announce(session, machine, queue)
    with sessions() as session:
        (row,) = session.scalars(select(WorkerClass))
    assert (row.name, row.queue, row.memory_bytes) == (machine.name, queue, machine.memory_bytes)


def test_the_most_memory_is_asked_for_once_a_moment_unless_it_is_too_little(
    sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("app.store.throughput.time", SimpleNamespace(monotonic=lambda: now))
    shared = with_recent_classes()

    def most(enough: int = 1) -> int | None:
        with sessions() as session:
            session.info.update(shared)
            return most_memory_lately(session, "gpu", enough)

    assert most() is None
    measured(sessions, SMALL)
    assert most() == SMALL.memory_bytes
    measured(sessions, LARGE)
    assert most() == SMALL.memory_bytes
    assert most(SMALL.memory_bytes + 1) == LARGE.memory_bytes
    with sessions.begin() as session:
        session.execute(delete(WorkerClass))
    assert most() == LARGE.memory_bytes
    now = 1001.5
    assert most() is None
