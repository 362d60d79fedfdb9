"""What workers count of claims, retries, lost leases and tokens, and that nobody waits for a count."""

import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.errors import HubUnreachable, JobCrashed, StorageFull
from app.maintenance.doorbell import Doorbell
from app.maintenance.sweeper import sweep
from app.settings import Settings
from app.store.audits import Audit
from app.store.core.sessions import async_engine
from app.store.core.unit_of_work import Store
from app.store.counters import Count, Counts, add_counts, of_tokens, read_counts
from app.store.jobs.kinds import SCORE_SHARD
from app.store.jobs.leases import LeaseLost
from app.store.lifecycle import cancel_operation
from tests.integration.rows import add_audit_rows, add_shard, add_tenant
from workers.running.handlers import HANDLERS
from workers.running.lease_keeper import Stopping
from workers.running.loop import run_jobs_until_idle
from workers.running.runtime import Runtime

KIND = SCORE_SHARD.name
Sessions = sessionmaker[Session]


@pytest.fixture
def audit(sessions: Sessions) -> Audit:
    """An audit with one shard that could have been claimed for a hundred seconds."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
        job = add_shard(session, audit)
        session.refresh(job)
        job.available_at -= timedelta(seconds=100)
    return audit


def run(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, handler: Callable[..., int]) -> dict[Count, float]:
    """What is counted when a worker runs the shard once, with a function of the test's own."""
    stopping = get_context("fork").Event()

    def once(*arguments: Any) -> int:
        stopping.set()
        return handler(*arguments)

    monkeypatch.setitem(HANDLERS, KIND, once)
    run_jobs_until_idle(runtime, stopping, queue="gpu", ring_for_others=lambda *_: None)
    with runtime.sessions() as session:
        return read_counts(session)


@pytest.mark.usefixtures("audit")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (JobCrashed("It broke."), "job-crashed"),
        (HubUnreachable("It is away."), "hub-unreachable"),
        (Stopping(), "worker-stopped"),
        (StorageFull("No room."), None),  # given up at once
    ],
)
def test_a_claim_and_why_it_is_followed_by_another_are_counted(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str | None
) -> None:
    def handler(*_: Any) -> int:
        raise error

    counts = run(runtime, monkeypatch, handler)
    claims = {count.labels: value for count, value in counts.items() if count.name == "claims"}
    assert claims == {("gpu", "300.0"): 1}
    assert 100 <= counts[Count("claim_seconds", ("gpu",))] < 300
    retries = {count.labels: value for count, value in counts.items() if count.name == "retries"}
    assert retries == ({} if reason is None else {(KIND, reason): 1})


def test_tokens_of_a_shard_that_succeeded_are_counted(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, audit: Audit
) -> None:
    def handler(runtime: Runtime, *_: Any) -> int:
        runtime.meter.note(1200.0, "nl")
        return 0

    assert run(runtime, monkeypatch, handler)[Count("tokens", (KIND,))] == 1200


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_lease_that_went_to_another_is_told_from_a_cancellation(
    runtime: Runtime,
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    audit: Audit,
    cancelled: bool,
) -> None:
    def handler(*_: Any) -> int:
        with sessions.begin() as session:
            if cancelled:
                cancel_operation(session, Audit, audit.tenant_id, audit.id)
            else:
                session.execute(text("UPDATE jobs SET epoch = epoch + 1"))
        raise LeaseLost

    counts = run(runtime, monkeypatch, handler)
    assert counts.get(Count("lost_leases", (KIND,)), 0) == (not cancelled)


async def test_a_sweep_counts_what_is_tried_again(
    settings: Settings, sessions: Sessions, audit: Audit
) -> None:
    with sessions.begin() as session:
        given_up = add_shard(session, audit)
        session.execute(
            text("UPDATE jobs SET state = 'running', attempts = 1, lease_expires_at = now() - interval '1 s'")
        )
        session.execute(text("UPDATE jobs SET attempts = 3 WHERE id = :id"), {"id": given_up.id})
    engine = async_engine(settings.require_database_url(), pool_size=1)
    doorbell = Doorbell(settings)
    try:
        assert await sweep(Store(engine), doorbell, settings) == 2
    finally:
        await doorbell.close()
        await engine.dispose()
    with sessions() as session:
        assert read_counts(session) == {Count("retries", (KIND, "lease-expired")): 1}


def test_a_worker_that_stands_still_while_it_counts_holds_up_no_other(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, database: psycopg.Connection, audit: Audit
) -> None:
    counts = Counts()
    counts.add(of_tokens(KIND, 1.0))
    with runtime.sessions.begin() as session:
        add_counts(session, counts)
    with database.transaction():
        database.execute("SELECT 1 FROM counters FOR UPDATE")
        began = time.monotonic()
        run(runtime, monkeypatch, lambda runtime, *_: runtime.meter.note(5.0, "nl") or 0)
        assert time.monotonic() - began < 30
    with runtime.sessions() as session:
        assert read_counts(session)[Count("tokens", (KIND,))] == 1
