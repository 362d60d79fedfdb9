"""Model lines over HTTP on a real Postgres: versions are audited, compared and judged by the real jobs."""

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from app.errors import LanguageModelRejected
from app.maintenance.sweeper import sweep
from app.settings import Settings
from app.store.audits import Audit
from app.store.companions import OperationAudit
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.deletion import erase_text_set
from app.store.events import Event, record_version
from app.store.gates import Gate
from app.store.jobs.job import Job
from app.store.jobs.owners import AUDIT, GATE, LANGUAGE_MODEL, MODEL_VERSION, STUDY, Owner
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.lifecycle import begin_operation, end, fail_owner, succeed_audit
from app.store.model_lines import ModelVersion
from app.store.operations import OperationStatus
from app.store.scores import copy_scores
from app.store.studies import Study
from app.store.tenants import Tenant
from app.store.text_sets import TextSet, TextSetStatus
from tests.http_api import client_of, make_key
from tests.integration.rows import add_ready_model, score_row
from tests.own_worker import run_next
from tests.tiny_models import english_sentences
from workers.running.runtime import Runtime

Sessions = sessionmaker[Session]
JSON = dict[str, Any]
RECITES_LITTLE = {"kind": "rate", "metric": "strict", "at_most": 0.1}
NOTHING_NEW = {"kind": "no_newly_memorized"}
TEXTS = 60


async def post(client: httpx.AsyncClient, path: str, key: str | None = None, **body: Any) -> httpx.Response:
    return await client.post(path, json=body, headers={"Idempotency-Key": key or uuid4().hex})


async def made(client: httpx.AsyncClient, path: str, **body: Any) -> JSON:
    answer = await post(client, path, **body)
    assert answer.is_success, answer.text
    return dict(answer.json())


async def read(client: httpx.AsyncClient, path: str) -> JSON:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture
def tenant_id(client: httpx.AsyncClient, sessions: Sessions) -> UUID:
    with sessions() as session:
        return session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()


@pytest.fixture
def models(tenant_id: UUID, sessions: Sessions) -> list[str]:
    """The ids of three language models that are ready."""
    with sessions.begin() as session:
        return [format_id(Prefix.LANGUAGE_MODEL, add_ready_model(session, tenant_id).id) for _ in range(3)]


@pytest.fixture
async def check(client: httpx.AsyncClient) -> JSON:
    """A standing check of texts with controls, with a policy on audits and one on studies."""
    sentences = [sentence[:80] for sentence in english_sentences()[: 2 * TEXTS]]
    order = np.random.default_rng(0).permutation(2 * TEXTS)
    sets = []
    for name, half in (("texts", order[:TEXTS]), ("controls", order[TEXTS:])):
        texts = [{"id": f"t{place}", "text": sentences[each]} for place, each in enumerate(half)]
        sets.append((await made(client, "/v1/text-sets", name=name, texts=texts))["id"])
    policies = [
        (await made(client, "/v1/policies", name="ours", rules=[rule]))["id"]
        for rule in (RECITES_LITTLE, NOTHING_NEW)
    ]
    return {
        "text_set": sets[0],
        "control_text_set": sets[1],
        "metrics": ["nl", "extraction"],
        "options": {"fdr": 0.1},
        "policies": policies[:1],
        "study_policies": policies[1:],
    }


@pytest.fixture
async def line(client: httpx.AsyncClient, check: JSON) -> str:
    return str((await made(client, "/v1/model-lines", name="chat", checks=[check]))["id"])


async def register(client: httpx.AsyncClient, line: str, model: str, label: str) -> JSON:
    return await made(client, f"/v1/model-lines/{line}/versions", model=model, label=label)


def write_scores(session: Session, audit_id: UUID | None, nl: Sequence[float]) -> None:
    """End an audit as its jobs do, with these numbers; no text is recited."""
    assert audit_id is not None
    metrics = {"extraction": {"status": "ok", "strict": False}}
    copy_scores(session, (score_row(audit_id, i, float(x), metrics=metrics) for i, x in enumerate(nl)))
    succeed_audit(session, audit_id, {})


def audit_ids(session: Session, version: JSON) -> tuple[UUID, UUID]:
    """Of a version's first check: its audit, and that of the control texts."""
    audit_id = parse_id(Prefix.AUDIT, version["checks"][0]["audit"])
    control = select(OperationAudit.audit_id).where(OperationAudit.owner_id == audit_id)
    assert audit_id is not None
    return audit_id, session.scalars(control).one()


def end_audits(sessions: Sessions, version: JSON, nl: Sequence[float], controls: Sequence[float]) -> None:
    with sessions.begin() as session:
        audit_id, control_id = audit_ids(session, version)
        write_scores(session, control_id, controls)
        write_scores(session, audit_id, nl)


async def run_until_ended(client: httpx.AsyncClient, runtime: Runtime, version: JSON) -> list[str]:
    kinds = []
    while (await read(client, f"/v1/model-versions/{version['id']}"))["status"] in {"queued", "running"}:
        kinds.append(await asyncio.to_thread(run_next, runtime))
    return kinds


def events_of(stream: str) -> list[JSON]:
    return [json.loads(row.removeprefix("data: ")) for row in stream.splitlines() if row.startswith("data: ")]


def drop_jobs(sessions: Sessions) -> None:
    """What would score the texts: the tests write the scores."""
    with sessions.begin() as session:
        session.execute(text("DELETE FROM jobs WHERE kind IN ('plan_audit', 'validate_language_model')"))


async def test_the_first_version_is_audited_and_judged(
    client: httpx.AsyncClient,
    sessions: Sessions,
    runtime: Runtime,
    models: list[str],
    check: JSON,
    line: str,
) -> None:
    answer = await post(client, f"/v1/model-lines/{line}/versions", model=models[0], label="1.0")
    assert answer.status_code == 202, answer.text
    first = answer.json()
    assert answer.headers["Location"] == f"/v1/model-versions/{first['id']}"
    assert (first["object"], first["status"], first["outcome"], first["previous"]) == (
        "model_version",
        "queued",
        None,
        None,
    )
    assert (first["line"], first["model"], first["checks"][0]["study"]) == (line, models[0], None)
    assert first["progress"] == {"done": 0, "total": 2 * TEXTS, "unit": "texts"}
    audit = await read(client, f"/v1/audits/{first['checks'][0]['audit']}")
    assert audit["preregistration"]["policy"] == check["policies"][0]
    assert audit["preregistration"]["text_set_hmac_sha256"] == audit["digests"]["text_set"]
    assert audit["companion_of"] == [first["id"]]
    assert (await client.get(f"/v1/model-versions/{first['id']}/diff")).status_code == 409
    drop_jobs(sessions)
    end_audits(sessions, first, [-3.0] * TEXTS, [-3.0] * TEXTS)
    assert await run_until_ended(client, runtime, first) == ["evaluate_gate"]
    ended = await read(client, f"/v1/model-versions/{first['id']}")
    assert (ended["status"], ended["outcome"], ended["error"]) == ("succeeded", "pass", None)
    assert [gate["outcome"] for gate in ended["gates"]] == ["pass"]


async def test_a_version_is_compared_with_the_one_before_by_the_audits_of_both(
    client: httpx.AsyncClient,
    sessions: Sessions,
    runtime: Runtime,
    models: list[str],
    line: str,
    remote: httpx.AsyncClient,
) -> None:
    """Ten of sixty texts rise from the first version to the second; no text is scored twice."""
    random = np.random.default_rng(0)
    before, controls = random.normal(-3, 0.5, TEXTS), random.normal(-3, 0.5, TEXTS)
    first = await register(client, line, models[0], "1.0")
    drop_jobs(sessions)
    end_audits(sessions, first, before, controls)
    await run_until_ended(client, runtime, first)
    second = await register(client, line, models[1], "1.1")
    assert (second["previous"], second["progress"]["total"]) == (first["id"], 2 * TEXTS)
    study = await read(client, f"/v1/studies/{second['checks'][0]['study']}")
    assert [(each["audit"], each["label"]) for each in study["models"]] == [
        (first["checks"][0]["audit"], "1.0"),
        (second["checks"][0]["audit"], "1.1"),
    ]
    assert len((await read(client, "/v1/audits"))["data"]) == 4
    assert (await client.get(f"/v1/model-versions/{second['id']}/diff")).status_code == 409
    drop_jobs(sessions)
    after = before + random.normal(0, 0.05, TEXTS)
    after[:10] += 2
    waiting = asyncio.create_task(remote.get(f"/v1/model-versions/{second['id']}?wait=30"))
    following = asyncio.create_task(remote.get(f"/v1/model-versions/{second['id']}/events"))
    end_audits(sessions, second, after, controls + random.normal(0, 0.05, TEXTS))
    kinds = await run_until_ended(client, runtime, second)
    assert sorted(kinds) == ["evaluate_gate", "evaluate_gate", "finish_study"]
    ended = (await waiting).json()
    assert (ended["status"], ended["outcome"]) == ("succeeded", "fail")
    assert [(gate["subject_kind"], gate["outcome"]) for gate in ended["gates"]] == [
        ("audit", "pass"),
        ("study", "fail"),
    ]
    diff = await read(client, f"/v1/model-versions/{second['id']}/diff")
    assert (diff["previous"], diff["previous_label"], diff["label"]) == (first["id"], "1.0", "1.1")
    (changed,) = diff["checks"]
    everything = changed["comparison"]["levels"][0]
    assert everything["difference"]["mean"] == pytest.approx((after - before).mean())
    newly = {each["text_id"] for each in changed["change"]["newly_memorized"]["texts"]}
    assert {f"t{place}" for place in range(10)} <= newly
    assert len(newly) <= 12

    told = events_of((await following).text)
    await require_resumable(client, second, told)
    listed = (await read(client, f"/v1/model-lines/{line}/versions"))["data"]
    assert [each["id"] for each in listed] == [second["id"], first["id"]]
    of_line = []
    async with remote.stream("GET", f"/v1/model-lines/{line}/events") as stream:
        async for row in stream.aiter_lines():
            if row.startswith("event: "):
                of_line.append(row.removeprefix("event: "))
            if len(of_line) == 7:
                break
    assert of_line == ["version.registered", "gate.passed", "version.succeeded", *(e["type"] for e in told)]


async def require_resumable(client: httpx.AsyncClient, version: JSON, told: list[JSON]) -> None:
    """The events of a version can be gone on with after each, and are those of the list."""
    kinds = ["version.registered", "gate.passed", "gate.failed", "version.succeeded"]
    assert [each["type"] for each in told] == kinds
    assert {each["model_version"] for each in told} == {version["id"]}
    assert told[-1]["data"]["outcome"] == "fail"
    seen = {"Last-Event-ID": told[1]["id"]}
    again = await client.get(f"/v1/model-versions/{version['id']}/events", headers=seen)
    assert events_of(again.text) == told[2:]
    everything = (await read(client, "/v1/events?limit=100"))["data"]
    assert [each["type"] for each in everything].count("audit.succeeded") == 4
    assert [each for each in everything if each["model_version"] == version["id"]] == told
    page = await read(client, f"/v1/events?limit=2&after={everything[2]['id']}")
    assert (page["data"], page["has_more"]) == (everything[3:5], True)
    page = await read(client, f"/v1/events?cursor={page['next_cursor']}&limit=100")
    assert (page["data"], page["has_more"]) == (everything[5:], False)


async def test_a_line_is_written_once_and_never_changes(
    client: httpx.AsyncClient, app: FastAPI, settings: Settings, check: JSON, models: list[str]
) -> None:
    body = {"name": "chat", "checks": [check], "metadata": {"team": "a"}}
    answer = await post(client, "/v1/model-lines", key="once", **body)
    assert answer.status_code == 201, answer.text
    line = answer.json()
    assert answer.headers["Location"] == f"/v1/model-lines/{line['id']}"
    assert line["checks"][0]["options"]["fdr"] == 0.1
    assert (await post(client, "/v1/model-lines", key="once", **body)).json() == line
    taken = await post(client, "/v1/model-lines", **body)
    assert (taken.status_code, taken.json()["type"].rsplit("/", 1)[1]) == (409, "line-name-taken")
    for query in ("name=chat", "metadata[team]=a", "limit=1"):
        assert (await read(client, f"/v1/model-lines?{query}"))["data"] == [line]
    assert (await read(client, "/v1/model-lines?name=other"))["data"] == []
    version = await register(client, line["id"], models[0], "1")
    version_path, line_path = f"/v1/model-versions/{version['id']}", f"/v1/model-lines/{line['id']}"
    async with client_of(app, make_key(settings, tenant="other")) as other:
        for method, path in (
            ("GET", line_path),
            ("GET", f"{line_path}/versions"),
            ("GET", f"{line_path}/events"),
            ("GET", version_path),
            ("GET", f"{version_path}/diff"),
            ("GET", f"{version_path}/events"),
            ("POST", f"{version_path}/cancel"),
        ):
            assert (await other.request(method, path)).status_code == 404, path
        for path in ("/v1/model-lines", "/v1/events"):
            assert (await read(other, path))["data"] == []
        event = (await read(client, "/v1/events"))["data"][0]["id"]
        assert (await other.get(f"/v1/events?after={event}")).status_code == 404
        unknown = await post(other, f"{line_path}/versions", model=models[1], label="2")
        assert unknown.status_code == 404
        assert (await post(other, "/v1/model-lines", **body)).status_code == 404
    async with client_of(app, make_key(settings, scopes=("audit:read",))) as reader:
        assert (await post(reader, f"{line_path}/versions", model=models[1], label="2")).status_code == 403
        assert (await reader.get(version_path)).status_code == 200


async def test_checks_that_can_judge_nothing_are_refused(
    client: httpx.AsyncClient, check: JSON, models: list[str]
) -> None:
    named = (await made(client, "/v1/policies", name="x", rules=[NOTHING_NEW | {"since": "1.0"}]))["id"]
    for change, pointer, code in (
        ({"policies": check["study_policies"]}, "/checks/0/policies/0", "rule_of_another_subject"),
        ({"study_policies": [named]}, "/checks/0/study_policies/0", "no_such_comparison"),
        ({"control_text_set": check["text_set"]}, "/checks/0/control_text_set", "same_as_text_set"),
    ):
        refused = await post(client, "/v1/model-lines", name="chat", checks=[check | change])
        assert refused.status_code == 422
        assert refused.json()["errors"] == [{"pointer": pointer, "code": code}]
    for change in ({"text_set": "txs_" + "0" * 32}, {"policies": ["pol_" + "0" * 32]}):
        assert (
            await post(client, "/v1/model-lines", name="chat", checks=[check | change])
        ).status_code == 404
    assert (await post(client, "/v1/model-lines", name="chat", checks=[])).status_code == 422


async def test_a_version_is_registered_once_and_differs_from_the_one_before(
    client: httpx.AsyncClient, models: list[str], line: str, sessions: Sessions, check: JSON, tenant_id: UUID
) -> None:
    path = f"/v1/model-lines/{line}/versions"
    first = await post(client, path, key="once", model=models[0], label="1")
    assert (await post(client, path, key="once", model=models[0], label="1")).json() == first.json()
    label = await post(client, path, model=models[1], label="1")
    assert (label.status_code, label.json()["type"].rsplit("/", 1)[1]) == (409, "label-taken")
    same = await post(client, path, model=models[0], label="2")
    assert same.json()["errors"] == [{"pointer": "/model", "code": "model_twice"}]
    await client.post(f"/v1/model-versions/{first.json()['id']}/cancel")
    with sessions.begin() as session:
        erase_text_set(session, tenant_id, parse_id(Prefix.TEXT_SET, check["control_text_set"]), None)
    erased = await post(client, path, model=models[1], label="2")
    assert (erased.status_code, erased.json()["type"].rsplit("/", 1)[1]) == (409, "text-set-not-ready")
    other = await made(client, "/v1/model-lines", name="b", checks=[check | {"control_text_set": None}])
    with sessions.begin() as session:
        importing = update(TextSet).where(TextSet.id == parse_id(Prefix.TEXT_SET, check["text_set"]))
        session.execute(importing.values(status=TextSetStatus.IMPORTING))
    early = await post(client, f"/v1/model-lines/{other['id']}/versions", model=models[1], label="2")
    assert (early.status_code, early.json()["type"].rsplit("/", 1)[1]) == (409, "text-set-not-ready")
    assert len((await read(client, path))["data"]) == 1


async def test_a_rejected_model_fails_its_version_and_the_next_is_compared_with_the_one_before_that(
    client: httpx.AsyncClient, sessions: Sessions, runtime: Runtime, models: list[str], line: str
) -> None:
    first = await register(client, line, models[0], "1")
    drop_jobs(sessions)
    end_audits(sessions, first, [-3.0] * TEXTS, [-3.0] * TEXTS)
    await run_until_ended(client, runtime, first)
    with sessions.begin() as session:
        model_id = parse_id(Prefix.LANGUAGE_MODEL, models[1])
        session.execute(
            update(LanguageModel)
            .where(LanguageModel.id == model_id)
            .values(status=LanguageModelStatus.QUEUED)
        )
    second = await register(client, line, models[1], "2")
    assert second["previous"] == first["id"]
    with sessions.begin() as session:
        job = Job(owner_kind=LANGUAGE_MODEL.kind, owner_id=model_id)
        fail_owner(session, job, LanguageModelRejected("It is no checkpoint.").problem())
    failed = await read(client, f"/v1/model-versions/{second['id']}")
    assert (failed["status"], failed["outcome"]) == ("failed", None)
    assert failed["error"]["type"].endswith("/version-incomplete")
    assert "It is no checkpoint." in failed["error"]["detail"]
    assert {gate["status"] for gate in failed["gates"]} == {"failed"}
    told = events_of((await client.get(f"/v1/model-versions/{second['id']}/events")).text)
    assert [each["type"] for each in told] == [
        "version.registered",
        "gate.undecided",
        "gate.undecided",
        "version.failed",
    ]
    rejected = await post(client, f"/v1/model-lines/{line}/versions", model=models[1], label="3")
    assert rejected.status_code == 409
    third = await register(client, line, models[2], "2")
    assert third["previous"] == first["id"]


async def test_a_cancelled_version_ends_what_was_made_for_it_and_nothing_else(
    client: httpx.AsyncClient, sessions: Sessions, models: list[str], line: str
) -> None:
    first = await register(client, line, models[0], "1")
    second = await register(client, line, models[1], "2")
    assert (second["previous"], second["progress"]["total"]) == (first["id"], 4 * TEXTS)
    path = f"/v1/model-versions/{second['id']}"
    cancelled = await client.post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert (await client.post(f"{path}/cancel")).status_code == 409
    assert {gate["status"] for gate in cancelled.json()["gates"]} == {"cancelled"}
    with sessions() as session:
        statuses = dict(session.execute(select(Study.status, func.count()).group_by(Study.status)).all())
        assert statuses == {"cancelled": 1}
        for version, status in ((first, "queued"), (second, "cancelled")):
            for audit_id in audit_ids(session, version):
                assert session.get_one(Audit, audit_id).status == status
        assert session.scalar(select(func.count()).where(Gate.status == OperationStatus.QUEUED)) == 1
    assert (await read(client, f"/v1/model-versions/{first['id']}"))["status"] == "queued"
    with sessions.begin() as session:
        begin_operation(session, Audit, audit_ids(session, first)[1], "d" * 64)
    begun = await read(client, f"/v1/model-versions/{first['id']}")
    assert (begun["status"], begun["started_at"] is not None) == ("running", True)


async def test_a_version_fails_with_that_before_it_whose_audits_it_shares(
    client: httpx.AsyncClient, sessions: Sessions, runtime: Runtime, models: list[str], line: str
) -> None:
    first = await register(client, line, models[0], "1")
    second = await register(client, line, models[1], "2")
    drop_jobs(sessions)
    end_audits(sessions, second, [-3.0] * TEXTS, [-3.0] * TEXTS)
    with sessions.begin() as session:
        end(session, AUDIT, audit_ids(session, first)[1], OperationStatus.CANCELLED)
    assert (await read(client, f"/v1/model-versions/{first['id']}"))["status"] == "failed"
    kinds = await run_until_ended(client, runtime, second)
    assert kinds == ["evaluate_gate"]
    failed = await read(client, f"/v1/model-versions/{second['id']}")
    assert failed["status"] == "failed"
    assert "was cancelled" in failed["error"]["detail"]


async def test_the_sweep_ends_a_version_that_nobody_told(
    client: httpx.AsyncClient,
    app: FastAPI,
    settings: Settings,
    sessions: Sessions,
    models: list[str],
    line: str,
) -> None:
    """As processes of the previous release end audits and gates."""
    version = await register(client, line, models[0], "1")
    drop_jobs(sessions)
    with sessions.begin() as session:
        for table in ("audits", "gates"):
            session.execute(text(f"UPDATE {table} SET status = 'succeeded', finished_at = now()"))
        session.execute(text("UPDATE gates SET outcome = 'inconclusive'"))
    assert (await read(client, f"/v1/model-versions/{version['id']}"))["status"] == "queued"
    await sweep(app.state.store, app.state.doorbell, settings)
    ended = await read(client, f"/v1/model-versions/{version['id']}")
    assert (ended["status"], ended["outcome"]) == ("succeeded", "inconclusive")


async def test_an_event_of_a_transaction_that_commits_later_comes_later(
    client: httpx.AsyncClient, sessions: Sessions, models: list[str], line: str
) -> None:
    """Whoever has read up to an event would miss one that was written before it and committed after."""
    version = await register(client, line, models[0], "1")
    version_id = parse_id(Prefix.MODEL_VERSION, version["id"])

    def tell(told: str, *, wait: threading.Event | None = None) -> None:
        with sessions.begin() as session:
            record_version(session, session.get_one(ModelVersion, version_id), told)
            if wait is not None:
                written.set()
                assert wait.wait(30)

    written, go_on = threading.Event(), threading.Event()
    slow = asyncio.create_task(asyncio.to_thread(tell, "slow", wait=go_on))
    assert await asyncio.to_thread(written.wait, 30)
    await asyncio.to_thread(tell, "quick")
    seen = (await read(client, "/v1/events"))["data"]
    assert [each["type"] for each in seen] == ["version.registered", "quick"]
    go_on.set()
    await slow
    later = (await read(client, f"/v1/events?after={seen[-1]['id']}"))["data"]
    assert [each["type"] for each in later] == ["slow"]
    with sessions() as session:
        ids = session.scalars(
            select(Event.id).where(Event.type.in_(("slow", "quick"))).order_by(Event.id)
        ).all()
        first = session.get_one(Event, ids[0])
        assert first.type == "slow"  # the oracle: the order of ids is not that of commits


async def test_what_ends_at_once_does_not_wait_for_each_other(
    client: httpx.AsyncClient, sessions: Sessions, check: JSON, models: list[str]
) -> None:
    """Audits that two versions share, a study, a gate and a version end together without a deadlock."""
    for turn in range(6):
        line = (await made(client, "/v1/model-lines", name=f"line {turn}", checks=[check]))["id"]
        first, second = [await register(client, line, models[place], str(place)) for place in range(2)]
        barrier = threading.Barrier(5)
        with sessions() as session:
            ids = [*audit_ids(session, first), *audit_ids(session, second)]
        study_id = parse_id(Prefix.STUDY, second["checks"][0]["study"])
        endings: list[tuple[Owner, UUID | None]] = [(AUDIT, ids[turn % 4]), (AUDIT, ids[(turn + 1) % 4])]
        endings += [(STUDY, study_id), (MODEL_VERSION, parse_id(Prefix.MODEL_VERSION, second["id"]))]
        gate_id = parse_id(Prefix.GATE, second["gates"][turn % 2]["gate"])

        def cancel(owner: Owner, owner_id: UUID, barrier: threading.Barrier = barrier) -> None:
            with sessions.begin() as session:
                barrier.wait()
                end(session, owner, owner_id, OperationStatus.CANCELLED)

        await asyncio.gather(*(asyncio.to_thread(cancel, *each) for each in [*endings, (GATE, gate_id)]))
        ended = await read(client, f"/v1/model-versions/{second['id']}")
        assert ended["status"] in {"cancelled", "failed"}
        assert {gate["status"] for gate in ended["gates"]} <= {"cancelled", "failed"}
        told = events_of((await client.get(f"/v1/model-versions/{second['id']}/events")).text)
        kinds = [each["type"] for each in told]
        assert (kinds[-1], len(kinds)) == (f"version.{ended['status']}", 4)
