"""Quotas of tenants on a real Postgres: nobody passes them, together or alone, or changes what was."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from app.http import buckets
from app.settings import Settings
from app.store.core.identifiers import Prefix, format_id
from app.store.jobs.claiming import claim
from app.store.jobs.leases import Lease, close_failed, postpone, release, requeue, take_for_finish
from app.store.jobs.owners import AUDIT
from app.store.jobs.queue import cancel_jobs
from app.store.jobs.sweeping import sweep_leases
from app.store.tenants import Tenant
from app.store.usage import JobSeconds, gpu_seconds, merge_seconds
from memaudit import AsyncClient
from tests.http_api import client_of, make_key
from tests.integration.rows import add_audit_rows, add_ready_model, add_shard, add_tenant

Sessions = sessionmaker[Session]
ERROR: Final = {
    "type": "https://memaudit.dev/problems/job-crashed",
    "title": "t",
    "status": 500,
    "detail": "d",
}
TABLES: Final = ("audits", "jobs", "text_sets", "texts", "idempotency_keys", "trail", "language_models")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Patient: who asks together is to meet the quotas, and not how much the machine carries."""
    return settings.model_copy(update={"waiting_seconds": 30.0})


@pytest.fixture
async def operator(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, make_key(settings, tenant="operator", scopes=("admin",))) as client:
        yield client


@pytest.fixture
def model(client: httpx.AsyncClient, sessions: Sessions) -> str:
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()
        return format_id(Prefix.LANGUAGE_MODEL, add_ready_model(session, tenant_id).id)


async def set_quotas(operator: httpx.AsyncClient, **quotas: int | None) -> None:
    (tenant,) = (await operator.get("/v1/tenants", params={"name": "acme"})).json()["data"]
    changed = await operator.patch(f"/v1/tenants/{tenant['id']}", json={"quotas": quotas})
    assert changed.status_code == 200, changed.text
    assert {name: value for name, value in changed.json()["quotas"].items() if value is not None} == quotas


def rows(database: psycopg.Connection) -> dict[str, int]:
    counted = (database.execute(f"SELECT count(*) FROM {table}").fetchone() for table in TABLES)
    return {table: row[0] for table, row in zip(TABLES, counted, strict=True) if row}


def texts(number: int, size: int = 5) -> dict[str, Any]:
    return {"name": "set", "texts": [{"text": "x" * size} for _ in range(number)]}


async def upload(client: httpx.AsyncClient, number: int, size: int = 5) -> httpx.Response:
    return await client.post("/v1/text-sets", json=texts(number, size))


def keyed(key: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": key or str(uuid4())}


def assert_exceeded(response: httpx.Response, quota: str, *, heals: bool) -> None:
    assert response.status_code == 429, response.text
    problem = response.json()
    assert problem["type"].endswith("/quota-exceeded")
    assert quota in problem["detail"]
    assert ("retry-after" in response.headers) == heals


def counted(client_app: FastAPI, limit: str) -> float:
    value = client_app.state.metrics.registry.get_sample_value("memaudit_refused_total", {"limit": limit})
    return float(value or 0.0)


async def test_of_twenty_who_ask_together_as_many_are_accepted_as_may_be(
    app: FastAPI,
    client: httpx.AsyncClient,
    operator: httpx.AsyncClient,
    model: str,
    database: psycopg.Connection,
) -> None:
    body = {"model": model, "text_set": (await upload(client, 1)).json()["id"]}
    await set_quotas(operator, concurrent_operations=5)
    before = rows(database)
    keys = [str(uuid4()) for _ in range(20)]
    asked = [client.post("/v1/audits", json=body, headers=keyed(key)) for key in keys]
    answers = dict(zip(keys, await asyncio.gather(*asked), strict=True))
    accepted = {key: answer.json() for key, answer in answers.items() if answer.status_code == 202}
    assert len(accepted) == 5
    for answer in answers.values():
        if answer.status_code != 202:
            assert_exceeded(answer, "concurrent_operations", heals=True)
    assert counted(app, "concurrent_operations") == 15
    after = rows(database)
    added = {table: after[table] - before[table] for table in TABLES}
    assert added == dict.fromkeys(TABLES, 0) | {"audits": 5, "jobs": 5, "idempotency_keys": 5, "trail": 5}

    # What was accepted once is answered again, and is no more; of what was refused nothing is remembered.
    repeated, first = next(iter(accepted.items()))
    again = await client.post("/v1/audits", json=body, headers=keyed(repeated))
    assert (again.status_code, again.json()) == (202, first)
    refused = next(key for key in keys if key not in accepted)
    assert (await client.post("/v1/audits", json=body, headers=keyed(refused))).status_code == 429
    assert (await client.post(f"/v1/audits/{first['id']}/cancel")).status_code == 202
    assert (await client.post("/v1/audits", json=body, headers=keyed(refused))).status_code == 202

    # Storing texts and looking at estimates begins no work.
    assert (await upload(client, 1)).status_code == 201
    assert (await client.post("/v1/audits?dry_run=true", json=body)).status_code == 200
    score = {"model": model, "texts": [{"text": "one"}], "timeout": 0}
    before = rows(database)
    assert_exceeded(await client.post("/v1/score", json=score), "concurrent_operations", heals=True)
    registered = {"source": {"type": "hub", "repo": "a/b", "revision": "main"}}
    answer = await client.post("/v1/models", json=registered, headers=keyed())
    assert_exceeded(answer, "concurrent_operations", heals=True)
    assert rows(database) == before


async def test_texts_and_bytes_are_counted_where_they_are_stored(
    client: httpx.AsyncClient, operator: httpx.AsyncClient, model: str, database: psycopg.Connection
) -> None:
    await set_quotas(operator, stored_texts=55)
    answers = await asyncio.gather(*(upload(client, number) for number in (10, 12, 14, 16, 18)))
    stored = [answer for answer in answers if answer.status_code == 201]
    row = database.execute("SELECT count(*) FROM texts").fetchone()
    assert row is not None
    assert row[0] == sum(answer.json()["text_count"] for answer in stored) <= 55
    while (last := await upload(client, 1)).status_code == 201:
        stored.append(last)
    assert_exceeded(last, "stored_texts", heals=False)
    assert sum(answer.json()["text_count"] for answer in stored) == 55
    score = {"model": model, "texts": [{"text": "one"}], "timeout": 0}
    before = rows(database)
    assert_exceeded(await client.post("/v1/score", json=score), "stored_texts", heals=False)
    assert rows(database) == before
    assert (await client.delete(f"/v1/text-sets/{stored[0].json()['id']}")).status_code == 200
    assert (await upload(client, 1)).status_code == 201

    await set_quotas(operator, stored_bytes=1000)
    assert_exceeded(await upload(client, 1, size=1000), "stored_bytes", heals=False)
    assert (await upload(client, 1, size=500)).status_code == 201
    await set_quotas(operator, upload_bytes=100)
    too_large = await upload(client, 1, size=100)
    assert (too_large.status_code, too_large.json()["type"].rpartition("/")[2]) == (413, "body-too-large")


async def test_who_waits_for_a_language_model_holds_up_nobody_who_is_counted(
    client: httpx.AsyncClient, operator: httpx.AsyncClient, model: str, database: psycopg.Connection
) -> None:
    """A turn that is kept while rows are waited for would be half of a deadlock with their holders."""
    await set_quotas(operator, stored_texts=55)
    body = {"model": model, "preset": "hubble/wikipedia"}  # which is imported: that text set is counted
    with database.transaction():
        database.execute("SELECT FROM language_models FOR UPDATE")
        asked = asyncio.create_task(client.post("/v1/audits", json=body, headers=keyed()))
        waiting = "SELECT FROM pg_locks WHERE NOT granted"
        async with asyncio.timeout(10):
            while database.execute(waiting).rowcount == 0:  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.001)
        assert (await upload(client, 1)).status_code == 201
    assert (await asked).status_code == 202


async def test_usage_is_shown_against_the_limits(
    app: FastAPI,
    client: httpx.AsyncClient,
    operator: httpx.AsyncClient,
    model: str,
    settings: Settings,
    artifact: str,
) -> None:
    body = {"model": model, "text_set": (await upload(client, 3)).json()["id"]}
    assert (await client.post("/v1/audits", json=body, headers=keyed())).status_code == 202
    await set_quotas(operator, stored_texts=55)
    usage = (await client.get("/v1/usage")).json()
    assert usage["limits"] | {"stored_texts": None} == dict.fromkeys(usage["limits"]) | {
        "requests_per_minute": settings.quota_requests_per_minute
    }
    assert usage["limits"]["stored_texts"] == 55
    files = 10 + 2 * 8 * 2**20 + 1000  # as `artifact_directory` has them
    assert usage["used"] == {
        "concurrent_operations": 1,
        "stored_texts": 3,
        "stored_bytes": 15 + files,
        "gpu_seconds_today": 0,
        "gpu_seconds_this_month": 0,
    }
    assert usage["day_ends_at"] <= usage["month_ends_at"]
    key = client.headers["authorization"].removeprefix("Bearer ")
    async with AsyncClient("http://memaudit", key, transport=httpx.ASGITransport(app=app)) as typed:
        assert (await typed.usage()).used.model_dump() == usage["used"]
    theirs = (await operator.get("/v1/usage")).json()
    assert theirs["used"]["stored_texts"] == theirs["used"]["concurrent_operations"] == 0


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(buckets.time, "monotonic", lambda: clock[0])
    return clock


def rate(response: httpx.Response) -> tuple[int, int, int, int]:
    """Quota, window, what is left and seconds until all of it is."""
    policy = re.fullmatch(r'"requests";q=(\d+);w=(\d+)', response.headers["ratelimit-policy"])
    state = re.fullmatch(r'"requests";r=(\d+);t=(\d+)', response.headers["ratelimit"])
    assert policy is not None
    assert state is not None
    return int(policy[1]), int(policy[2]), int(state[1]), int(state[2])


async def test_every_answer_says_how_many_requests_are_left(
    app: FastAPI,
    client: httpx.AsyncClient,
    operator: httpx.AsyncClient,
    settings: Settings,
    now: list[float],
) -> None:
    await set_quotas(operator, requests_per_minute=6)
    assert rate(await client.get("/v1/audits")) == (6, 60, 5, 10)
    assert rate(await client.get("/v1/audits/none")) == (6, 60, 4, 20)
    assert rate(await client.post("/v1/audits", json={})) == (6, 60, 3, 30)
    # Another key of the tenant, on a route of another kind, counts with it; so do pages.
    async with client_of(app, make_key(settings, scopes=("edit:read",))) as other:
        assert rate(await other.get("/api/models/acme/none")) == (6, 60, 2, 40)
        signed_in = await other.post(
            "/sign-in",
            data={"key": client.headers["authorization"][7:]},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        assert signed_in.status_code in (302, 303), signed_in.text
        assert rate(await other.get("/audits"))[2] == 0
    refused = await client.get("/v1/audits")
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (429, "rate-limited")
    assert refused.headers["retry-after"] == "10"
    assert rate(refused) == (6, 60, 0, 60)
    assert counted(app, "requests_per_minute") == 1
    # Others are not held up, and nobody waits longer for having asked.
    assert (await operator.get("/v1/usage")).status_code == 200
    now[0] += 10
    assert rate(await client.get("/v1/audits")) == (6, 60, 0, 60)
    for path in ("/healthz", "/v1/audits"):
        answer = await client.get(path, headers={"Authorization": ""})
        assert "ratelimit" not in answer.headers


def ten_seconds_ago(session: Session, lease: Lease) -> None:
    session.execute(
        text("UPDATE jobs SET claimed_at = claimed_at - interval '10 s' WHERE id = :id"), {"id": lease.job_id}
    )


def succeed(session: Session, lease: Lease) -> None:
    take_for_finish(session, lease)


def fail(session: Session, lease: Lease) -> None:
    close_failed(session, lease, ERROR)


def try_again(session: Session, lease: Lease) -> None:
    requeue(session, lease, ERROR, delay_seconds=0)


def wait(session: Session, lease: Lease) -> None:
    postpone(session, lease, ERROR, delay_seconds=0)


def cancel(session: Session, lease: Lease) -> None:
    cancel_jobs(session, AUDIT, lease.owner_id)


def run_out(session: Session, lease: Lease) -> None:
    """The worker said nothing for an hour; its lease ended four seconds after its claim."""
    session.execute(
        text("UPDATE jobs SET claimed_at = claimed_at - interval '1 h' WHERE id = :id"), {"id": lease.job_id}
    )
    session.execute(
        text("UPDATE jobs SET lease_expires_at = claimed_at + interval '10 s' WHERE id = :id"),
        {"id": lease.job_id},
    )
    assert len(sweep_leases(session, max_attempts=3)) == 1


@pytest.mark.parametrize("end", [succeed, fail, try_again, wait, release, cancel, run_out])
def test_the_seconds_of_an_attempt_are_counted_once_however_it_ends(
    sessions: Sessions, end: Callable[[Session, Lease], None]
) -> None:
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        add_shard(session, add_audit_rows(session, tenant_id))
        session.flush()
        lease = claim(session, queue="gpu", worker="w", lease_seconds=60)
        assert lease is not None
        ten_seconds_ago(session, lease)
        assert gpu_seconds(session, tenant_id).today == pytest.approx(10, abs=2)
        end(session, lease)
        used = gpu_seconds(session, tenant_id)
        assert used.today == used.this_month == pytest.approx(10, abs=2)
        # The worker of an attempt that was taken away does not count it again.
        session.execute(text("UPDATE jobs SET progress = 1"))
        assert session.scalars(select(func.count()).select_from(JobSeconds)).one() == 1


def test_a_sum_is_what_was_summed_up(sessions: Sessions) -> None:
    with sessions.begin() as session:
        tenant_id, other = add_tenant(session), add_tenant(session, "other")
        today = session.scalars(text("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date")).one()
        month = today.replace(day=1)
        # On the first of a month two of them are one.
        days = ((today, 1.5), (month, 2.0), (today.replace(year=today.year - 2, day=1), 64.0))
        for day, seconds in days:
            for queue in ("gpu", "cpu"):
                session.add_all(
                    JobSeconds(tenant_id=tenant_id, queue=queue, day=day, seconds=seconds) for _ in range(3)
                )
        session.add(JobSeconds(tenant_id=other, queue="gpu", day=today, seconds=8.0))
        before = gpu_seconds(session, tenant_id)
        assert before.this_month == 3 * (1.5 + 2.0)
        assert before.today == 3 * sum(seconds for day, seconds in days if day == today)
        merge_seconds(session)
        assert gpu_seconds(session, tenant_id) == before
        assert gpu_seconds(session, other).today == 8.0
        assert (
            session.scalars(select(func.count()).select_from(JobSeconds)).one() == 2 * len({today, month}) + 1
        )
        merge_seconds(session)
        assert gpu_seconds(session, tenant_id) == before


@pytest.mark.parametrize("quota", ["gpu_seconds_per_day", "gpu_seconds_per_month"])
async def test_who_used_up_the_gpu_seconds_is_told_when_there_are_more(
    client: httpx.AsyncClient,
    operator: httpx.AsyncClient,
    model: str,
    database: psycopg.Connection,
    quota: str,
) -> None:
    body = {"model": model, "text_set": (await upload(client, 1)).json()["id"]}
    await set_quotas(operator, **{quota: 10})
    assert (await client.post("/v1/audits", json=body, headers=keyed())).status_code == 202
    database.execute(
        "INSERT INTO job_seconds (tenant_id, queue, day, seconds) "
        "SELECT id, queue, (now() AT TIME ZONE 'UTC')::date, 9.5 "
        "FROM tenants, (VALUES ('gpu'), ('cpu')) AS of (queue)"
    )
    assert (await client.post("/v1/audits", json=body, headers=keyed())).status_code == 202
    database.execute("UPDATE job_seconds SET seconds = 10")
    refused = await client.post("/v1/audits", json=body, headers=keyed())
    assert_exceeded(refused, quota, heals=True)
    longest = 86_400 if quota.endswith("day") else 31 * 86_400
    assert 0 < int(refused.headers["retry-after"]) <= longest
    assert (await upload(client, 1)).status_code == 201
    webhook = {"url": "https://example.com/"}
    assert (await client.post("/v1/webhooks", json=webhook, headers=keyed())).status_code == 201
