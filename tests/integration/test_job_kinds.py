"""Kinds of jobs: what a registration suffices for, what workers of a class take, and for whom they ring."""

from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Queue
from app.store.audits import Audit
from app.store.core.base import JSONObject
from app.store.enqueueing import enqueue_audit
from app.store.jobs.claiming import claim
from app.store.jobs.job import Job, JobState
from app.store.jobs.kinds import KINDS, SUMMARIZE_AUDIT, JobKind
from app.store.jobs.leases import Lease, heartbeat
from app.store.jobs.owners import AUDIT, OWNERS
from app.store.jobs.queue import add_job
from app.store.jobs.sweeping import jobs_to_ring, sweep_leases
from app.store.lifecycle import end
from app.store.operations import OperationStatus
from tests.integration.rows import add_audit_rows, add_shard, add_tenant
from workers.running.finishing import finish
from workers.running.handlers import resolve
from workers.running.lease_keeper import LeaseKeeper
from workers.running.loop import run_job, run_jobs_until_idle
from workers.running.runtime import Runtime

Sessions = sessionmaker[Session]


def count_letters(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """The handler of a toy kind: the audit's metadata says how many letters a word has."""
    letters = len(lease.payload["word"])

    def write(session: Session) -> int:
        session.get_one(Audit, lease.owner_id).metadata_ = {"letters": letters}
        return lease.payload["enqueues"]

    return finish(runtime, lease, write)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> JobKind:
    """A kind of work, by its registration and nothing else. It needs no language model."""
    kind = JobKind(
        "count_letters",
        owner=AUDIT,
        queue="cpu",
        handler="tests.integration.test_job_kinds:count_letters",
        enqueues=("gpu",),
    )
    monkeypatch.setitem(KINDS, kind.name, kind)
    return kind


@pytest.fixture
def audit(sessions: Sessions) -> Audit:
    with sessions.begin() as session:
        return add_audit_rows(session, add_tenant(session))


@pytest.fixture
def add_toy(sessions: Sessions, audit: Audit, toy: JobKind) -> Callable[..., Job]:
    def add(*, priority: int = 0, enqueues: int = 0) -> Job:
        payload: JSONObject = {"word": "memaudit", "enqueues": enqueues}
        with sessions.begin() as session:
            return add_job(
                session,
                toy,
                tenant_id=audit.tenant_id,
                owner_id=audit.id,
                payload=payload,
                priority=priority,
            )

    return add


def take(sessions: Sessions, queue: Queue, **options: Any) -> Lease | None:
    with sessions.begin() as session:
        return claim(session, queue=queue, worker="w", lease_seconds=60, **options)


def run_next(runtime: Runtime, queue: Queue = "gpu") -> None:
    lease = take(runtime.sessions, queue)
    assert lease is not None
    run_job(runtime, lease, get_context("fork").Event())


def reread(sessions: Sessions, job: Job) -> Job:
    with sessions() as session:
        return session.get_one(Job, job.id)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_has_an_owner_and_a_handler(kind: JobKind) -> None:
    assert OWNERS[kind.owner.kind] is kind.owner
    assert callable(resolve(kind.handler))


def test_a_kind_of_work_needs_its_registration_alone(
    runtime: Runtime, sessions: Sessions, audit: Audit, add_toy: Callable[..., Job]
) -> None:
    job = add_toy()
    run_next(runtime)
    job = reread(sessions, job)
    assert (job.state, job.owner_kind, job.owner_id, job.language_model_id) == (
        JobState.SUCCEEDED,
        "audit",
        audit.id,
        None,
    )
    with sessions() as session:
        assert session.get_one(Audit, audit.id).metadata_ == {"letters": 8}


def test_a_kind_of_work_shares_the_rules_of_its_owner(
    runtime: Runtime, sessions: Sessions, audit: Audit, add_toy: Callable[..., Job]
) -> None:
    """What is wanted no more is not beaten for, is swept, and fails with its owner."""
    job = add_toy()
    lease = take(sessions, "cpu")
    assert lease is not None
    with sessions.begin() as session:
        assert heartbeat(session, lease, lease_seconds=60, progress=0)
        assert end(session, AUDIT, audit.id, OperationStatus.CANCELLED)
        assert not heartbeat(session, lease, lease_seconds=60, progress=0)
    late = add_toy()
    with sessions.begin() as session:
        sweep_leases(session, max_attempts=3)
    assert {reread(sessions, job).state, reread(sessions, late).state} == {JobState.CANCELLED}


@pytest.mark.parametrize("owner_kind", ["audit", "new"])
def test_a_job_of_a_kind_that_only_a_newer_release_knows_is_left_to_its_processes(
    runtime: Runtime, sessions: Sessions, audit: Audit, database: psycopg.Connection, owner_kind: str
) -> None:
    """Nothing of it is counted, claimed by a worker or given up by a sweep, and what is known goes on."""
    with sessions.begin() as session:
        new, known = add_shard(session, audit, priority=1), add_shard(session, audit)
    database.execute("UPDATE jobs SET kind = 'new', owner_kind = %s WHERE id = %s", (owner_kind, new.id))
    lease = take(sessions, "gpu")
    assert lease is not None
    assert lease.job_id == known.id
    assert take(sessions, "gpu") is None
    assert take(sessions, "cpu") is None
    job = reread(sessions, new)
    assert (job.state, job.attempts, job.epoch) == (JobState.QUEUED, 0, 0)
    # A worker of that release took it, and died.
    database.execute(
        "UPDATE jobs SET state = 'running', attempts = 3, lease_expires_at = '2000-01-01' WHERE id = %s",
        (new.id,),
    )
    with sessions.begin() as session:
        assert sweep_leases(session, max_attempts=3) == []
    assert reread(sessions, new).state == JobState.RUNNING
    with sessions() as session:
        assert session.get_one(Audit, audit.id).status == OperationStatus.QUEUED


def test_a_worker_for_gpu_serves_both_queues_by_priority_and_one_for_cpu_its_own(
    sessions: Sessions, audit: Audit, add_toy: Callable[..., Job]
) -> None:
    with sessions.begin() as session:
        shard = add_shard(session, audit)
    low, high = add_toy(priority=-1), add_toy(priority=1)
    taken = [take(sessions, "gpu"), take(sessions, "cpu"), take(sessions, "cpu"), take(sessions, "gpu")]
    assert [lease and lease.job_id for lease in taken] == [high.id, low.id, None, shard.id]


def test_a_job_that_needs_no_language_model_is_not_preferred_to_a_loaded_one(
    sessions: Sessions, audit: Audit, add_toy: Callable[..., Job]
) -> None:
    add_toy()
    with sessions.begin() as session:
        shard = add_shard(session, audit)
    lease = take(sessions, "gpu", loaded=[audit.language_model_id])
    assert lease is not None
    assert lease.job_id == shard.id


def test_bells_are_rung_at_the_queue_of_each_job(
    sessions: Sessions, audit: Audit, add_toy: Callable[..., Job]
) -> None:
    add_toy()
    with sessions.begin() as session:
        enqueue_audit(session, audit)
        add_job(session, SUMMARIZE_AUDIT, tenant_id=audit.tenant_id, owner_id=audit.id)
    with sessions.begin() as session:
        assert jobs_to_ring(session, stale_seconds=60) == {"gpu": 1, "cpu": 2}


@pytest.mark.parametrize(
    ("queue", "enqueued", "rung"),
    [
        ("cpu", 1, [("gpu", 1)]),  # a worker for cpu takes none of them itself
        ("cpu", 3, [("gpu", 3)]),
        ("gpu", 1, []),
        ("gpu", 3, [("gpu", 2)]),
        ("gpu", 0, []),
    ],
)
def test_a_worker_rings_for_the_jobs_that_it_leaves_to_others(
    runtime: Runtime,
    add_toy: Callable[..., Job],
    queue: Queue,
    enqueued: int,
    rung: list[tuple[Queue, int]],
) -> None:
    add_toy(enqueues=enqueued)
    bells: list[tuple[Queue, int]] = []
    run_jobs_until_idle(
        runtime,
        get_context("fork").Event(),
        queue=queue,
        ring_for_others=lambda queue, times: bells.append((queue, times)),
    )
    assert bells == rung
