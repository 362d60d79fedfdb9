"""Leases on a real Postgres: who may claim, who may commit, and what a sweep does."""

import time
from collections.abc import Iterator
from uuid import UUID

import pytest
from sqlalchemy import func, text, update
from sqlalchemy.orm import Session, sessionmaker

from app.errors import AlreadyTerminal, JobCrashed, JobFailed, LanguageModelRejected, NotFound
from app.store.audits import Audit
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.enqueueing import enqueue_validation
from app.store.jobs.claiming import claim
from app.store.jobs.job import Job, JobState
from app.store.jobs.kinds import SUMMARIZE_AUDIT
from app.store.jobs.leases import Lease, LeaseLost, heartbeat, is_held, release, requeue, take_for_finish
from app.store.jobs.queue import add_job
from app.store.jobs.sweeping import jobs_to_ring, sweep_leases
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.lifecycle import cancel_operation, complete_shard, fail_job
from app.store.operations import OperationStatus
from tests.integration.rows import add_audit_rows, add_ready_model, add_shard, add_tenant
from tests.job_machine import GUARD

Sessions = sessionmaker[Session]


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    engine = sync_engine(database_url, pool_size=5)
    yield sync_sessions(engine)
    engine.dispose()


@pytest.fixture
def audit(sessions: Sessions) -> Audit:
    with sessions.begin() as session:
        return add_audit_rows(session, add_tenant(session))


def take(sessions: Sessions, *, lease_seconds: float = 60) -> Lease | None:
    with sessions.begin() as session:
        return claim(session, queue="gpu", worker="w", lease_seconds=lease_seconds)


def take_one(sessions: Sessions, **options: float) -> Lease:
    lease = take(sessions, **options)
    assert lease is not None
    return lease


def sweep(sessions: Sessions) -> int:
    with sessions.begin() as session:
        return len(sweep_leases(session, max_attempts=3))


def state_of(sessions: Sessions, job_id: UUID) -> str:
    with sessions() as session:
        return session.get_one(Job, job_id).state


def reread(sessions: Sessions, audit: Audit) -> Audit:
    with sessions() as session:
        return session.get_one(Audit, audit.id)


def add(sessions: Sessions, audit: Audit, count: int = 1, *, priority: int = 0) -> list[UUID]:
    with sessions.begin() as session:
        return [add_shard(session, audit, priority=priority).id for _ in range(count)]


def test_a_claim_leases_the_oldest_job_once(sessions: Sessions, audit: Audit) -> None:
    first, second = add(sessions, audit, 2)
    taken = [take_one(sessions).job_id, take_one(sessions).job_id]
    assert taken == [first, second]
    assert take(sessions) is None


def test_an_uncommitted_claim_is_skipped_not_waited_for(sessions: Sessions, audit: Audit) -> None:
    first, second = add(sessions, audit, 2)
    with sessions.begin() as holder:
        held = claim(holder, queue="gpu", worker="a", lease_seconds=60)
        began = time.monotonic()
        other = take_one(sessions)
        assert time.monotonic() - began < 1
    assert held is not None
    assert {held.job_id, other.job_id} == {first, second}


def test_a_lost_lease_cannot_commit(sessions: Sessions, audit: Audit) -> None:
    add(sessions, audit)
    paused = take_one(sessions, lease_seconds=0.01)
    time.sleep(0.05)
    assert sweep(sessions) == 1
    second = take_one(sessions)
    assert (second.job_id, second.epoch, second.attempts) == (paused.job_id, 2, 2)

    with pytest.raises(LeaseLost), sessions.begin() as session:
        take_for_finish(session, paused)
    with sessions.begin() as session:
        assert not heartbeat(session, paused, lease_seconds=60, progress=1)
        assert heartbeat(session, second, lease_seconds=60, progress=1)
    with sessions.begin() as session:
        take_for_finish(session, second)
    assert state_of(sessions, second.job_id) == JobState.SUCCEEDED


def test_a_heartbeat_keeps_the_lease_from_the_sweeper(sessions: Sessions, audit: Audit) -> None:
    add(sessions, audit)
    lease = take_one(sessions, lease_seconds=0.01)
    with sessions.begin() as session:
        assert heartbeat(session, lease, lease_seconds=60, progress=7)
    time.sleep(0.05)
    assert sweep(sessions) == 0
    assert state_of(sessions, lease.job_id) == JobState.RUNNING


def test_three_attempts_without_an_answer_fail_the_audit(sessions: Sessions, audit: Audit) -> None:
    job, sibling = add(sessions, audit, 2)
    for attempt in (1, 2, 3):
        with sessions.begin() as session:
            session.get_one(Job, sibling).priority = -1
        lease = take_one(sessions, lease_seconds=0.01)
        assert (lease.job_id, lease.attempts) == (job, attempt)
        time.sleep(0.05)
        assert sweep(sessions) == 1
    ended = reread(sessions, audit)
    assert ended.status == OperationStatus.FAILED
    assert ended.error is not None
    assert ended.error["type"].endswith("/attempts-exhausted")
    assert state_of(sessions, job) == JobState.FAILED
    assert state_of(sessions, sibling) == JobState.CANCELLED


def test_a_failed_job_fails_its_audit_and_frees_its_siblings(sessions: Sessions, audit: Audit) -> None:
    job, sibling = add(sessions, audit, 2)
    lease = take_one(sessions)
    with sessions.begin() as session:
        fail_job(session, lease, {"type": "t", "title": "T", "status": 500, "detail": "no"})
    assert reread(sessions, audit).status == OperationStatus.FAILED
    assert [state_of(sessions, job), state_of(sessions, sibling)] == [JobState.FAILED, JobState.CANCELLED]


def test_a_job_that_is_given_up_takes_the_others_of_its_audit_with_it_for_good(
    sessions: Sessions, audit: Audit
) -> None:
    """Within the sweep too nothing that has ended begins again."""
    jobs = add(sessions, audit, 2)
    with sessions.begin() as session:
        session.execute(text(GUARD))
        session.execute(update(Job).values(state=JobState.RUNNING, attempts=1, lease_expires_at=func.now()))
        session.execute(update(Job).where(Job.id == jobs[0]).values(attempts=3))
    assert sweep(sessions) == 2
    assert [state_of(sessions, job) for job in jobs] == [JobState.FAILED, JobState.CANCELLED]


@pytest.mark.parametrize(
    ("failure", "status"),
    [(LanguageModelRejected("No weights."), 422), (JobCrashed("The worker failed."), 500)],
)
def test_a_rejected_language_model_tells_the_clients_fault_from_the_machines(
    sessions: Sessions, failure: JobFailed, status: int
) -> None:
    with sessions.begin() as session:
        model = add_ready_model(session, add_tenant(session))
        model.status = LanguageModelStatus.QUEUED
        enqueue_validation(session, model)
    lease = take_one(sessions)
    with sessions.begin() as session:
        fail_job(session, lease, failure.problem())
    with sessions() as session:
        rejected = session.get_one(LanguageModel, model.id)
    assert rejected.status == LanguageModelStatus.REJECTED
    assert rejected.error is not None
    assert rejected.error["type"].endswith("/language-model-rejected")
    assert rejected.error["status"] == status


def test_nothing_commits_after_a_cancel(sessions: Sessions, audit: Audit) -> None:
    running, waiting = add(sessions, audit, 2)
    lease = take_one(sessions)
    with sessions.begin() as session:
        assert is_held(session, lease)
        cancel_operation(session, Audit, audit.tenant_id, audit.id)
    with sessions.begin() as session:
        assert not is_held(session, lease)
    with pytest.raises(LeaseLost), sessions.begin() as session:
        take_for_finish(session, lease)
    assert {state_of(sessions, running), state_of(sessions, waiting)} == {JobState.CANCELLED}
    assert reread(sessions, audit).status == OperationStatus.CANCELLED
    with pytest.raises(AlreadyTerminal), sessions.begin() as session:
        cancel_operation(session, Audit, audit.tenant_id, audit.id)


def test_a_cancel_that_meets_a_finishing_shard_wins_or_loses_whole(sessions: Sessions, audit: Audit) -> None:
    """The finishing transaction holds its job's row; the cancel skips it, and the finish then gives way."""
    job = add(sessions, audit)[0]
    lease = take_one(sessions)

    def finish_while_it_is_cancelled() -> None:
        with sessions.begin() as finishing:
            take_for_finish(finishing, lease)
            with sessions.begin() as cancelling:
                cancel_operation(cancelling, Audit, audit.tenant_id, audit.id)
            complete_shard(finishing, audit.id, 10)

    with pytest.raises(LeaseLost):
        finish_while_it_is_cancelled()
    assert state_of(sessions, job) == JobState.RUNNING
    assert reread(sessions, audit).texts_done == 0
    with sessions.begin() as session:
        assert not heartbeat(session, lease, lease_seconds=60, progress=0)


def test_the_sweeper_puts_away_what_a_cancel_had_to_skip(sessions: Sessions, audit: Audit) -> None:
    job = add(sessions, audit)[0]
    take_one(sessions, lease_seconds=0.01)
    with sessions.begin() as session:
        session.get_one(Audit, audit.id).status = OperationStatus.CANCELLED
    time.sleep(0.05)
    sweep(sessions)
    assert state_of(sessions, job) == JobState.CANCELLED


def test_only_its_tenant_can_cancel(sessions: Sessions, audit: Audit) -> None:
    with sessions.begin() as session:
        stranger = add_tenant(session, "globex")
    with pytest.raises(NotFound), sessions.begin() as session:
        cancel_operation(session, Audit, stranger, audit.id)
    assert reread(sessions, audit).status == OperationStatus.QUEUED


def test_the_last_shard_enqueues_one_summary(sessions: Sessions, audit: Audit) -> None:
    add(sessions, audit, 2)
    enqueued = []
    for _ in range(2):
        lease = take_one(sessions)
        with sessions.begin() as session:
            take_for_finish(session, lease)
            enqueued.append(complete_shard(session, audit.id, 5))
    assert enqueued == [0, 1]
    assert take_one(sessions).kind == "summarize_audit"


def test_a_released_job_has_not_been_tried(sessions: Sessions, audit: Audit) -> None:
    add(sessions, audit)
    lease = take_one(sessions)
    with sessions.begin() as session:
        release(session, lease)
    again = take_one(sessions)
    assert (again.job_id, again.attempts, again.epoch) == (lease.job_id, 1, 2)


def test_a_requeued_job_waits_for_its_delay(sessions: Sessions, audit: Audit) -> None:
    add(sessions, audit)
    lease = take_one(sessions)
    with sessions.begin() as session:
        requeue(session, lease, {"detail": "later"}, delay_seconds=0.3)
    assert take(sessions) is None
    time.sleep(0.35)
    assert take_one(sessions).attempts == 2


def test_bells_are_rung_once_until_they_grow_stale(sessions: Sessions, audit: Audit) -> None:
    add(sessions, audit, 3)

    def bells(stale_seconds: float) -> dict[str, int]:
        with sessions.begin() as session:
            return jobs_to_ring(session, stale_seconds=stale_seconds)

    assert bells(60) == {"gpu": 3}
    assert bells(60) == {}
    time.sleep(0.05)
    assert bells(0.01) == {"gpu": 1}


def test_no_queue_waits_for_the_bells_of_another(sessions: Sessions, audit: Audit) -> None:
    """Nor what is urgent for what is not, nor what is tried again for what is new."""
    add(sessions, audit, 70)
    with sessions.begin() as session:
        again = add_shard(session, audit)
        again.error = {}
        add_shard(session, audit, priority=10)
        add_job(session, SUMMARIZE_AUDIT, tenant_id=audit.tenant_id, owner_id=audit.id)
    with sessions.begin() as session:
        assert jobs_to_ring(session, stale_seconds=60) == {"gpu": 66, "cpu": 1}
    with sessions.begin() as session:
        assert jobs_to_ring(session, stale_seconds=60) == {"gpu": 6}
