"""Ended jobs are removed after a time, in batches, those of what has ended; the scrape reads no old ones."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker
from structlog.testing import capture_logs

from app.maintenance import retention
from app.maintenance.retention import collect
from app.settings import Settings
from app.store.core.sessions import async_engine, sync_engine
from app.store.core.unit_of_work import Store
from app.store.edits import Edit
from app.store.enqueueing import enqueue_edit, enqueue_validation
from app.store.jobs.job import JobState
from app.store.jobs.kinds import PLAN_AUDIT
from app.store.jobs.load import count_open
from app.store.jobs.queue import add_job
from app.store.jobs.sweeping import sweep_leases
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.lifecycle import accept_language_model
from app.store.operations import OperationStatus
from app.store.tenants import Tenant
from tests.integration.rows import add_audit_rows, add_edit, add_ready_model, add_shard, add_tenant


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    engine = async_engine(settings.require_database_url(), pool_size=2)
    yield Store(engine)
    await engine.dispose()


def end_jobs(database: psycopg.Connection, *, days: int) -> None:
    database.execute(
        "UPDATE jobs SET state = 'succeeded', finished_at = clock_timestamp() - make_interval(days => %s) "
        "WHERE state = 'queued'",
        (days,),
    )


def left(database: psycopg.Connection) -> set[UUID]:
    return {job_id for (job_id,) in database.execute("SELECT id FROM jobs").fetchall()}


async def test_only_old_jobs_of_what_has_ended_are_removed(
    store: Store, sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    kept = set()
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        active, ended = (add_audit_rows(session, tenant_id) for _ in range(2))
        ended.status = OperationStatus.FAILED
        active_edit, ended_edit = add_edit(session, tenant_id), add_edit(session, tenant_id)
        ended_edit.status = OperationStatus.CANCELLED
        validated, unvalidated = (add_ready_model(session, tenant_id) for _ in range(2))
        unvalidated.status = LanguageModelStatus.QUEUED
        kept |= {add_shard(session, active).id, enqueue_edit(session, active_edit).id}
        kept.add(enqueue_validation(session, unvalidated).id)
        removed = {add_shard(session, ended).id, enqueue_edit(session, ended_edit).id}
        removed.add(enqueue_validation(session, validated).id)
        session.flush()
    end_jobs(database, days=8)
    with sessions.begin() as session:
        recent, waiting = add_shard(session, ended), add_shard(session, ended)
    end_jobs(database, days=6)
    database.execute("UPDATE jobs SET state = 'queued', finished_at = NULL WHERE id = %s", (waiting.id,))
    assert left(database) == kept | removed | {recent.id, waiting.id}
    await collect(store, Settings(jobs_kept_days=7))
    assert left(database) == kept | {recent.id, waiting.id}


async def test_they_are_removed_in_batches_until_none_is_left(
    store: Store,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 10)
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
        audit.status = OperationStatus.SUCCEEDED
        for _ in range(35):
            add_shard(session, audit)
    end_jobs(database, days=8)
    await collect(store, Settings(jobs_kept_days=7))
    assert left(database) == set()


async def test_an_edit_whose_old_jobs_are_kept_is_not_begun_twice(
    store: Store, sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    """What waits for a language model is what has no job: an old ended one must still be there to say so."""
    with sessions.begin() as session:
        edit = add_edit(session, add_tenant(session))
        enqueue_edit(session, edit)
    end_jobs(database, days=30)
    await collect(store, Settings(jobs_kept_days=7))
    with sessions.begin() as session:
        model_id = session.get_one(Edit, edit.id).language_model_id
        session.get_one(LanguageModel, model_id).status = LanguageModelStatus.QUEUED
        assert accept_language_model(session, model_id, {}) == 0
        assert session.get_one(LanguageModel, model_id).status == LanguageModelStatus.READY


def test_a_job_that_the_sweeper_gives_up_has_an_end(
    sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    with sessions.begin() as session:
        add_shard(session, add_audit_rows(session, add_tenant(session)))
    database.execute("UPDATE jobs SET state = 'running', attempts = 3, lease_expires_at = created_at")
    with sessions.begin() as session:
        assert len(sweep_leases(session, max_attempts=3)) == 1
    row = database.execute("SELECT state, finished_at >= created_at FROM jobs").fetchone()
    assert row == (JobState.FAILED, True)


def test_the_scrape_reads_no_ended_jobs(
    settings: Settings, sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    """Whichever index the planner takes, it looks at a few pages of a table that has hundreds."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
        for _ in range(3):
            add_shard(session, audit)
        model_id, tenant_id = audit.language_model_id, audit.tenant_id
        job = add_job(session, PLAN_AUDIT, tenant_id=tenant_id, owner_id=audit.id, language_model_id=model_id)
        job.state = JobState.RUNNING
    # Of as many audits, which need not exist.
    database.execute("ALTER TABLE jobs DROP CONSTRAINT fk_jobs_audit_id")
    database.execute(
        "INSERT INTO jobs (id, kind, queue, tenant_id, audit_id, payload, state, priority, epoch, "
        "attempts, progress, finished_at) SELECT gen_random_uuid(), kind, queue, tenant_id, "
        "gen_random_uuid(), payload, 'succeeded', 0, 1, 1, 0, created_at "
        "FROM jobs, generate_series(1, 10000)"
    )
    database.execute("VACUUM ANALYZE jobs")
    engine = sync_engine(settings.require_database_url())
    said: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *args: said.append((args[2], args[3])))
    with Session(engine) as session:
        counted = {(each.kind, each.state): each.jobs for each in count_open(session)}
    engine.dispose()
    assert counted == {("score_shard", "queued"): 3, ("plan_audit", "running"): 1}
    ((statement, parameters),) = said
    explained = database.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
    ).fetchone()
    pages = database.execute("SELECT relpages FROM pg_class WHERE relname = 'jobs'").fetchone()
    assert explained is not None
    assert pages is not None
    plan = explained[0][0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 30 < pages[0] / 10


async def test_what_fails_keeps_nothing_else_from_being_done(
    store: Store,
    settings: Settings,
    sessions: sessionmaker[Session],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither other steps, nor the same one of other tenants."""
    done: list[object] = []

    def next_expired_text_set(_session: Session, tenant_id: UUID, *_: Any, after: UUID) -> None:
        done.append(tenant_id)
        raise OperationalError("", {}, Exception())

    def bury(*_: Any, **__: Any) -> int:
        raise PermissionError

    with sessions.begin() as session:
        tenants = {add_tenant(session, name) for name in ("one", "other")}
        session.execute(update(Tenant).values(retention={"text_sets_days": 1}))
    monkeypatch.setattr(retention, "next_expired_text_set", next_expired_text_set)
    monkeypatch.setattr(retention, "bury", bury)
    monkeypatch.setattr(retention, "merge_seconds", lambda _: done.append("usage"))
    monkeypatch.setattr(retention, "convert_some", lambda _: done.append("conversion"))
    with capture_logs() as said:
        await collect(store, settings)
        await retention.expire(store, settings)
    assert {*done} == {*tenants, "usage", "conversion"}
    assert [each["step"] for each in said if each["event"] == "collection_failed"] == [
        "overdue_deliveries",
        *("text_sets", "text_sets"),
    ]
