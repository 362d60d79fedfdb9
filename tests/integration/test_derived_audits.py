"""Audits that follow from the evidence of another. Oracle: the same request of a tenant who has no other."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import delete, select

from app.contracts.audits import AuditSpec
from app.settings import Settings
from app.store.audits import Audit
from app.store.token_evidence import TokenEvidence, copy_evidence, read_evidence
from tests.http_api import client_of, make_key
from tests.own_worker import run_next
from tests.tiny_models import END_OF_TEXT, english_sentences, save_reciting_model
from workers.audits.sources import covers
from workers.running.runtime import Runtime

SENTENCES = english_sentences()
TEXTS: list[dict[str, Any]] = [
    {"id": "long", "text": " ".join(SENTENCES[60:64]), "member": True, "duplicates": 4},
    {"id": "empty", "text": ""},
    {"id": "letter", "text": "x"},
    {"id": "split", "prefix": SENTENCES[3][:60], "suffix": SENTENCES[3][60:200], "group": "manual"},
    {"id": "ended", "text": f"{SENTENCES[7][:80]}{END_OF_TEXT}{SENTENCES[8][:200]}", "metadata": {"a": 1}},
    *({"text": sentence[:150], "duplicates": 0} for sentence in SENTENCES[70:76]),
]
SPLIT = {"prefix_tokens": 8, "suffix_tokens": 6}
SOURCE = ["nl", "extraction", "p_z"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that recites some of the texts, so that ranks tell one split from another."""
    recited = [text["text"] for text in TEXTS if len(text.get("text", "")) > 100][2:]
    return save_reciting_model(tmp_path_factory.mktemp("models") / "tiny", recited, steps=60)


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path, checkpoint: Path) -> Settings:
    return Settings(
        database_url=database_url,
        broker_url=broker_url,
        home=tmp_path / "home",
        model_roots=[checkpoint.parent],
        lease_seconds=60,
        shard_texts=6,
    )


class Tenant:
    """Requests of one tenant; jobs run in this process when the test says so."""

    def __init__(self, http: httpx.AsyncClient, runtime: Runtime, model: str, text_set: str) -> None:
        self.http, self.runtime, self.model, self.text_set = http, runtime, model, text_set

    async def run(self) -> str:
        return await asyncio.to_thread(run_next, self.runtime)

    async def request(self, metrics: list[str], fields: dict[str, Any] | None = None, **options: Any) -> str:
        body = {"model": self.model, "text_set": self.text_set, "metrics": metrics, "options": options}
        body |= fields or {}
        answer = await self.http.post("/v1/audits", json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.status_code == 202, answer.text
        return f"/v1/audits/{answer.json()['id']}"

    async def end_of(self, path: str) -> tuple[dict[str, Any], list[str]]:
        """The audit once it has succeeded, and the kinds of the jobs that it took."""
        jobs = []
        while (audit := (await self.http.get(path)).json())["status"] in {"queued", "running"}:
            jobs.append(await self.run())
        assert audit["status"] == "succeeded", audit["error"]
        return audit, jobs

    async def found(self, path: str) -> list[Any]:
        """All that an audit shows of its texts and of their tokens."""
        rows = (await self.http.get(f"{path}/scores")).json()["data"]
        tokens = [(await self.http.get(f"{path}/scores/{row['text_id']}/tokens")).json() for row in rows]
        return [rows, [evidence.get("tokens") for evidence in tokens]]


NewTenant = Callable[[], Awaitable[Tenant]]


@pytest.fixture
async def new_tenant(app: FastAPI, settings: Settings, runtime: Runtime, checkpoint: Path) -> Any:
    clients = []

    async def make() -> Tenant:
        http = client_of(app, make_key(settings, tenant=f"tenant-{len(clients)}"))
        clients.append(http)
        body = {"source": {"type": "path", "path": str(checkpoint)}}
        model = await http.post("/v1/models", json=body, headers={"Idempotency-Key": "k"})
        await asyncio.to_thread(run_next, runtime)
        return Tenant(http, runtime, model.json()["id"], await upload(http, TEXTS))

    yield make
    for http in clients:
        await http.aclose()


async def upload(http: httpx.AsyncClient, texts: list[dict[str, Any]]) -> str:
    answer = await http.post("/v1/text-sets", json={"name": "texts", "texts": texts})
    return str(answer.json()["id"])


@pytest.mark.parametrize(
    ("conditions", "metrics", "options"),
    [
        ({"prefix_token": "eos"}, ["nl", "extraction", "verbatim", "p_z", "membership"], {}),
        ({"prefix_token": "none"}, ["verbatim", "membership"], {"min_k": 0.5, "prefix_tokens": 3}),
        ({}, ["p_z", "membership"], {"token_evidence": False}),
    ],
)
async def test_what_is_derived_has_the_bits_of_what_is_scored_anew(
    new_tenant: NewTenant, conditions: dict[str, Any], metrics: list[str], options: dict[str, Any]
) -> None:
    tenant, other = await new_tenant(), await new_tenant()
    first, jobs = await tenant.end_of(await tenant.request(SOURCE, **SPLIT, **conditions))
    assert jobs == ["plan_audit", "score_shard", "score_shard", "summarize_audit"]
    assert first["derived_from"] is None

    path = await tenant.request(metrics, **SPLIT | conditions | options)
    derived, jobs = await tenant.end_of(path)
    assert jobs == ["plan_audit", "derive_shard", "derive_shard", "summarize_audit"]
    assert derived["derived_from"] == first["id"]
    assert derived["progress"] == {"done": len(TEXTS), "total": len(TEXTS), "unit": "texts"}

    anew_path = await other.request(metrics, **SPLIT | conditions | options)
    anew, jobs = await other.end_of(anew_path)
    assert jobs.count("score_shard") == 2
    assert await tenant.found(path) == await other.found(anew_path)
    for shown in ("summary", "prefix_token"):
        assert derived[shown] == anew[shown]
    assert derived["digests"]["model"] == anew["digests"]["model"]
    assert derived["digests"]["text_set"] != anew["digests"]["text_set"], "each tenant has a key of its own"

    # It has evidence of its own, from which others follow.
    if options.get("token_evidence", True):
        again, _ = await tenant.end_of(await tenant.request(["nl"], **SPLIT | conditions))
        assert again["derived_from"] == derived["id"]


async def test_a_shard_whose_evidence_is_erased_or_lacks_something_goes_through_the_model(
    new_tenant: NewTenant, database: psycopg.Connection
) -> None:
    tenant = await new_tenant()
    first, _ = await tenant.end_of(path := await tenant.request(["p_z"], **SPLIT))
    found = await tenant.found(path)

    # A text of the second shard without what sampling needs: an empty sum would say that p_z is 1.
    with tenant.runtime.sessions.begin() as session:
        audit_id = session.scalars(select(Audit.id)).one()
        evidence = read_evidence(session, audit_id, 8)
        assert evidence is not None
        session.execute(delete(TokenEvidence).where(TokenEvidence.ordinal == 8))
        copy_evidence(session, audit_id, [replace(evidence, sampling_log_likelihoods=None)])
    audit, jobs = await tenant.end_of(path := await tenant.request(["p_z"], **SPLIT))
    assert jobs == ["plan_audit", "derive_shard", "derive_shard", "score_shard", "summarize_audit"]
    assert await tenant.found(path) == found
    # What was derived before is derived still.
    assert audit["derived_from"] == first["id"]

    sent_again, erased = await upload(tenant.http, TEXTS), tenant.text_set
    tenant.text_set = sent_again
    path = await tenant.request(["p_z"], **SPLIT)
    assert [await tenant.run() for _ in range(2)] == ["plan_audit", "derive_shard"]
    assert (await tenant.http.delete(f"/v1/text-sets/{erased}")).is_success
    again, jobs = await tenant.end_of(path)
    assert jobs == ["derive_shard", "score_shard", "summarize_audit"]
    assert again["derived_from"] == audit["id"]
    assert await tenant.found(path) == found

    # Nothing follows from what an older release scored: it did not record which tokens end a generation.
    database.execute("UPDATE audits SET end_tokens = NULL")
    await tenant.request(["nl"])
    await tenant.run()
    kinds = database.execute("SELECT DISTINCT kind FROM jobs WHERE state = 'queued'").fetchall()
    assert kinds == [("score_shard",)]


async def test_a_cancelled_audit_takes_nothing_over(
    new_tenant: NewTenant, database: psycopg.Connection
) -> None:
    tenant = await new_tenant()
    await tenant.end_of(await tenant.request(["nl"]))
    path = await tenant.request(["membership"])
    assert [await tenant.run() for _ in range(2)] == ["plan_audit", "derive_shard"]
    assert (await tenant.http.post(f"{path}/cancel")).status_code == 202
    states = database.execute("SELECT state FROM jobs WHERE kind = 'derive_shard' ORDER BY id").fetchall()
    assert states == [("succeeded",), ("cancelled",)]


async def test_controls_are_shots_whose_pass_is_never_derived(new_tenant: NewTenant) -> None:
    tenant = await new_tenant()
    await tenant.end_of(await tenant.request(["membership"]))
    controls = await upload(tenant.http, [{"text": sentence[:30]} for sentence in SENTENCES[90:110]])
    path = await tenant.request(["membership"], {"control_text_set": controls})
    audit, jobs = await tenant.end_of(path)
    assert jobs.count("score_shard") == 2 + 4
    assert audit["derived_from"] is None
    assert audit["recall_shots"] >= 2
    rows = (await tenant.http.get(f"{path}/scores")).json()["data"]
    assert [row["text_id"] for row in rows if row["membership"] is None] == ["empty"]
    assert all(row["membership"]["recall"] > 0 for row in rows if row["membership"])
    # Without the shots it follows, and so does a companion from another audit's.
    again, jobs = await tenant.end_of(await tenant.request(["nl"], {"control_text_set": controls}))
    assert "score_shard" not in jobs
    assert (again["derived_from"], again["recall_shots"]) == (audit["id"], None)


def spec(metrics: str = "nl", **options: Any) -> AuditSpec:
    return AuditSpec(metrics=metrics.split(), **({"options": options} if options else {}))


@pytest.mark.parametrize(
    ("source", "wanted", "follows"),
    [
        (spec(), spec("nl verbatim membership", min_k=0.4, temperature=2.0), True),
        (spec("extraction"), spec("extraction", top_k=3), True),
        (spec("p_z"), spec("p_z"), True),
        (spec(token_evidence=False), spec(), False),
        (spec(), spec(dtype="bfloat16"), False),
        (spec(), spec(prefix_token="bos"), False),
        (spec(), spec(special_tokens="text"), False),
        (spec(), spec("extraction"), False),
        (spec("p_z"), spec("extraction"), False),
        (spec("extraction"), spec("extraction", suffix_tokens=50), False),
        (spec("extraction"), spec("p_z"), False),
        (spec("p_z"), spec("p_z", prefix_tokens=50), False),
        (spec("p_z"), spec("p_z", temperature=2.0), False),
        (spec("p_z"), spec("p_z", top_k=3), False),
    ],
)
def test_what_follows_from_what(source: AuditSpec, wanted: AuditSpec, follows: bool) -> None:
    assert covers(source, wanted) is follows
