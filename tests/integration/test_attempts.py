"""How attempts end, on a real Postgres: what is away is waited for, all else is counted, and all ends."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest
import torch
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from app.embedded.postgres_server import PostgresServer
from app.errors import BlobMissing, HubUnreachable, JobFailed, StorageUnavailable
from app.settings import Settings
from app.store.audits import Audit
from app.store.core.away import database_is_away
from app.store.core.sessions import sync_engine
from app.store.enqueueing import enqueue_edit
from app.store.jobs.claiming import claim
from app.store.jobs.job import Job, JobState
from app.store.jobs.kinds import RUN_EDIT, SCORE_SHARD, JobKind
from app.store.jobs.sweeping import sweep_leases
from app.store.operations import OperationStatus
from tests.integration.rows import add_audit_rows, add_edit, add_shard, add_tenant
from workers.running.attempts import LONGEST_PAUSE_SECONDS, pause
from workers.running.device import DeviceBroken
from workers.running.finishing import finish
from workers.running.handlers import HANDLERS, Handler
from workers.running.lease_keeper import LeaseKeeper
from workers.running.loop import run_job, run_jobs_until_idle
from workers.running.runtime import Runtime

Sessions = sessionmaker[Session]


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    """Pauses of hardly any time, and an outage that is over after a second."""
    return Settings(
        database_url=database_url,
        broker_url=broker_url,
        home=tmp_path,
        lease_seconds=5,
        retry_seconds=0.01,
        outage_seconds=1,
    )


@pytest.fixture
def audit(sessions: Sessions) -> Audit:
    """An audit with one shard."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session))
        add_shard(session, audit)
        return audit


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Callable[[JobKind, Handler], None]:
    """Let a function of the test's own run jobs of a kind."""

    def handle(kind: JobKind, handler: Handler) -> None:
        monkeypatch.setitem(HANDLERS, kind.name, handler)

    return handle


def fail_with(error: Callable[[], Exception]) -> Handler:
    def handler(*_: Any) -> NoReturn:
        raise error()

    return handler


def run_next(runtime: Runtime) -> bool:
    """Run the job that is claimable now; False when there is none."""
    with runtime.sessions.begin() as session:
        lease = claim(session, queue="gpu", worker="test", lease_seconds=5)
    if lease is not None:
        run_job(runtime, lease, get_context("fork").Event())
    return lease is not None


def run_until_ended(runtime: Runtime, seconds: float = 10) -> list[Job]:
    """Run jobs until none is open; all jobs."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        run_next(runtime)
        with runtime.sessions() as session:
            jobs = list(session.query(Job).order_by(Job.id))
        if all(job.state in {JobState.SUCCEEDED, JobState.FAILED} for job in jobs):
            return jobs
        time.sleep(0.01)
    raise AssertionError([(job.state, job.attempts, job.waits) for job in jobs])


def the_job(sessions: Sessions) -> Job:
    with sessions() as session:
        return session.query(Job).one()


# Statements that the database answers with an error, which the driver calls operational.
REFUSED = {
    "a lock that is not given": "SET LOCAL lock_timeout = '20ms'; SELECT 1 FROM held FOR UPDATE",
    "a program limit": "INSERT INTO long SELECT string_agg(md5(i::text), '') FROM generate_series(1, 999) i",
    "a query that is cancelled": "SET LOCAL statement_timeout = '20ms'; SELECT pg_sleep(9)",
    "a transaction that idles": "SET LOCAL idle_in_transaction_session_timeout = '20ms'",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED.keys())
def test_what_the_database_refuses_is_an_attempt_and_capped(
    runtime: Runtime,
    sessions: Sessions,
    audit: Audit,
    database: psycopg.Connection,
    handle: Callable[[JobKind, Handler], None],
    statement: str,
) -> None:
    database.execute("CREATE TABLE held AS SELECT 1; CREATE TABLE long (a text PRIMARY KEY)")

    def execute(runtime: Runtime, *_: Any) -> int:
        with runtime.sessions.begin() as session:
            for part in statement.split("; "):
                session.execute(text(part))
            time.sleep(0.1)
            session.execute(text("SELECT 1"))
        return 0

    handle(SCORE_SHARD, execute)
    with sessions.begin() as holder:
        holder.execute(text("SELECT 1 FROM held FOR UPDATE"))
        (job,) = run_until_ended(runtime)
    assert (job.state, job.attempts, job.waits) == (JobState.FAILED, 3, 0)
    with sessions() as session:
        ended = session.get_one(Audit, audit.id)
    assert ended.status == OperationStatus.FAILED
    assert ended.error is not None
    assert ended.error["type"].endswith("/job-crashed")


def test_a_connection_that_is_lost_is_no_attempt(
    runtime: Runtime,
    sessions: Sessions,
    audit: Audit,
    database: psycopg.Connection,
    handle: Callable[[JobKind, Handler], None],
) -> None:
    def lose_connection(runtime: Runtime, *_: Any) -> int:
        with runtime.sessions.begin() as session:
            database.execute(
                "SELECT pg_terminate_backend(%s)", (session.scalar(text("SELECT pg_backend_pid()")),)
            )
            time.sleep(0.1)
            session.execute(text("SELECT 1"))
        return 0

    handle(SCORE_SHARD, lose_connection)
    assert run_next(runtime)
    job = the_job(sessions)
    assert (job.state, job.attempts, job.waits) == (JobState.QUEUED, 0, 1)
    # One that loses it each time, because the server dies of what it is asked, ends all the same.
    (job,) = run_until_ended(runtime)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert job.error["type"].endswith("/service-unavailable")


def test_two_edits_that_want_the_same_row_both_end(
    runtime: Runtime, sessions: Sessions, database: psycopg.Connection, handle: Any
) -> None:
    """The row of a blob: the one that waited too long comes again, and finds it free or gives up."""
    database.execute("INSERT INTO blobs (sha256, size, chunk_bytes, location) VALUES ('held', 1, 1, 'x')")
    with sessions.begin() as session:
        tenant = add_tenant(session)
        for _ in range(2):
            enqueue_edit(session, add_edit(session, tenant))

    def take_blob(runtime: Runtime, lease: Any, keeper: LeaseKeeper) -> int:
        with runtime.sessions.begin() as session:
            session.execute(text("SET LOCAL lock_timeout = '20ms'"))
            session.execute(text("SELECT 1 FROM blobs WHERE sha256 = 'held' FOR UPDATE"))
            if lease.attempts == 1:
                # Meanwhile the other one is claimed, by another worker.
                assert run_next(runtime)
        return finish(runtime, lease, lambda _: 0)

    handle(RUN_EDIT, take_blob)
    assert run_next(runtime)
    with sessions() as session:
        attempts = [(job.state, job.attempts) for job in session.query(Job).order_by(Job.id)]
    assert attempts == [(JobState.SUCCEEDED, 1), (JobState.QUEUED, 1)]
    assert [job.state for job in run_until_ended(runtime)] == [JobState.SUCCEEDED] * 2


def test_what_was_computed_is_not_lost_to_another_transaction(
    runtime: Runtime, sessions: Sessions, audit: Audit, database: psycopg.Connection, handle: Any
) -> None:
    """The finish is repeated, not the job."""
    database.execute("CREATE TABLE held AS SELECT 1")
    tries = []

    def write(session: Session) -> int:
        tries.append(session)
        if len(tries) == 3:
            holder.rollback()
        session.execute(text("SET LOCAL lock_timeout = '20ms'"))
        session.execute(text("SELECT 1 FROM held FOR UPDATE"))
        return 0

    handle(SCORE_SHARD, lambda runtime, lease, _: finish(runtime, lease, write))
    with sessions() as holder:
        holder.execute(text("SELECT 1 FROM held FOR UPDATE"))
        assert run_next(runtime)
    job = the_job(sessions)
    assert (job.state, job.attempts, len(tries)) == (JobState.SUCCEEDED, 1, 3)


def test_pauses_double_up_to_a_limit() -> None:
    assert [pause(5, earlier) for earlier in range(6)] == [5, 10, 20, 40, 80, LONGEST_PAUSE_SECONDS]
    assert pause(5, 10_000) == LONGEST_PAUSE_SECONDS


def test_an_outage_outlasts_any_number_of_attempts(
    runtime: Runtime, sessions: Sessions, audit: Audit, handle: Callable[[JobKind, Handler], None]
) -> None:
    handle(SCORE_SHARD, fail_with(lambda: HubUnreachable("The hub did not answer.")))
    for waits in range(1, 7):
        while not run_next(runtime):
            time.sleep(0.005)
        tried_at = datetime.now(UTC)
        job = the_job(sessions)
        assert (job.state, job.attempts, job.waits) == (JobState.QUEUED, 0, waits)
        assert (job.available_at - tried_at).total_seconds() <= 0.01 * 2 ** (waits - 1)
        assert job.waiting_since is not None
        assert job.waiting_since < tried_at
    # It is back.
    handle(SCORE_SHARD, lambda runtime, lease, _: finish(runtime, lease, lambda _: 0))
    (job,) = run_until_ended(runtime)
    assert (job.state, job.attempts) == (JobState.SUCCEEDED, 1)


def test_an_outage_that_does_not_end_is_called_final(
    runtime: Runtime, sessions: Sessions, audit: Audit, handle: Callable[[JobKind, Handler], None]
) -> None:
    handle(SCORE_SHARD, fail_with(lambda: HubUnreachable("The hub did not answer.")))
    began = time.monotonic()
    (job,) = run_until_ended(runtime)
    assert time.monotonic() - began >= 1
    assert (job.state, job.attempts) == (JobState.FAILED, 1)
    assert job.waits >= 3
    assert job.error is not None
    assert job.error["type"].endswith("/hub-unreachable")
    assert f"tried {job.waits + 1} times" in job.error["detail"]


def wait_three_times(runtime: Runtime, handle: Callable[[JobKind, Handler], None]) -> None:
    handle(SCORE_SHARD, fail_with(lambda: HubUnreachable("The hub did not answer.")))
    for _ in range(3):
        while not run_next(runtime):
            time.sleep(0.005)


@pytest.mark.parametrize("error", [HubUnreachable, StorageUnavailable])
def test_what_an_attempt_computes_before_it_finds_something_away_is_no_waiting(
    runtime: Runtime,
    sessions: Sessions,
    audit: Audit,
    handle: Callable[[JobKind, Handler], None],
    error: type[JobFailed],
) -> None:
    wait_three_times(runtime, handle)

    def compute(*_: Any) -> NoReturn:
        time.sleep(1.1)
        raise error("It does not answer at the end.")

    handle(SCORE_SHARD, compute)
    while not run_next(runtime):
        time.sleep(0.005)
    assert the_job(sessions).state == JobState.QUEUED


def test_another_thing_that_is_away_is_another_outage(
    runtime: Runtime,
    sessions: Sessions,
    audit: Audit,
    database: psycopg.Connection,
    handle: Callable[[JobKind, Handler], None],
) -> None:
    wait_three_times(runtime, handle)
    database.execute("UPDATE jobs SET waiting_since = waiting_since - interval '2 hours'")
    handle(SCORE_SHARD, fail_with(lambda: StorageUnavailable("The store did not answer.")))
    began = datetime.now(UTC)
    while not run_next(runtime):
        time.sleep(0.005)
    job = the_job(sessions)
    assert (job.state, job.attempts, job.waits) == (JobState.QUEUED, 0, 1)
    assert job.waiting_since is not None
    assert job.waiting_since >= began


def test_an_attempt_that_fails_otherwise_ends_the_outage(
    runtime: Runtime, sessions: Sessions, audit: Audit, handle: Callable[[JobKind, Handler], None]
) -> None:
    handle(SCORE_SHARD, fail_with(lambda: HubUnreachable("The hub did not answer.")))
    assert run_next(runtime)
    handle(SCORE_SHARD, fail_with(lambda: BlobMissing("It was collected.")))
    time.sleep(0.02)
    assert run_next(runtime)
    job = the_job(sessions)
    assert (job.attempts, job.waits, job.waiting_since) == (1, 0, None)


def broken() -> Exception:
    return torch.AcceleratorError("CUDA error: device-side assert triggered")


def test_a_process_whose_device_is_broken_claims_nothing_more_and_the_attempt_counts_once(
    runtime: Runtime, sessions: Sessions, audit: Audit, handle: Callable[[JobKind, Handler], None]
) -> None:
    with sessions.begin() as session:
        other = add_shard(session, session.get_one(Audit, audit.id), priority=-1).id
    handle(SCORE_SHARD, fail_with(broken))
    with pytest.raises(DeviceBroken):
        run_jobs_until_idle(
            runtime, get_context("fork").Event(), queue="gpu", ring_for_others=lambda *_: None
        )
    with sessions.begin() as session:
        assert sweep_leases(session, max_attempts=3) == []
    with sessions() as session:
        states = {job.id == other: (job.state, job.attempts) for job in session.query(Job)}
    assert states == {False: (JobState.QUEUED, 1), True: (JobState.QUEUED, 0)}
    for _ in range(2):
        time.sleep(0.05)
        with pytest.raises(DeviceBroken):
            run_next(runtime)
    with sessions() as session:
        assert session.get_one(Audit, audit.id).status == OperationStatus.FAILED


def test_a_process_whose_device_is_broken_ends_even_when_the_database_refuses(
    runtime: Runtime, audit: Audit, database: psycopg.Connection, handle: Callable[[JobKind, Handler], None]
) -> None:
    def refuse(*_: Any) -> NoReturn:
        database.execute("ALTER TABLE jobs ADD CONSTRAINT never CHECK (state = 'running')")
        raise broken()

    handle(SCORE_SHARD, refuse)
    with pytest.raises(DeviceBroken):
        run_next(runtime)


def test_which_failures_mean_that_the_database_is_away(
    database_url: str, postgres_server: PostgresServer
) -> None:
    """A connection that cannot be made, or that is lost; not what the driver itself refuses."""
    engine = sync_engine(database_url)
    numbers = tuple(range(70_000))
    with engine.connect() as connection, pytest.raises(DBAPIError) as too_many:
        connection.exec_driver_sql("SELECT " + "+".join(["%s"] * len(numbers)), numbers)
    assert not database_is_away(too_many.value)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        connection.execute(text("SELECT 1"))
        driver.close()
        with pytest.raises(DBAPIError) as closed:
            connection.execute(text("SELECT 1"))
        assert database_is_away(closed.value)
    postgres_server.kill()
    try:
        with pytest.raises(DBAPIError) as refused, suppress(TimeoutError):
            engine.connect()
        assert database_is_away(refused.value)
    finally:
        postgres_server.start()
        engine.dispose()
    assert not database_is_away(ValueError("not of the database"))
