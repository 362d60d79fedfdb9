"""Whose job is claimed next, on a real Postgres: nobody waits for the whole of another's work."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session, sessionmaker

from app.scoring.service import PRIORITY
from app.store.audits import Audit
from app.store.enqueueing import enqueue_audit, enqueue_validation
from app.store.jobs import claiming
from app.store.jobs.claiming import claim
from app.store.jobs.job import Job
from app.store.jobs.leases import Lease, take_for_finish
from app.store.language_models import LanguageModel
from tests.integration.rows import add_audit_rows, add_ready_model, add_shard, add_tenant
from workers.running.turns import Turns

Sessions = sessionmaker[Session]
TURN_SECONDS = 30.0
JOB_SECONDS = 4.0


class Worker:
    """Claims as a worker process does, with a clock of its own and room for one language model."""

    def __init__(self, sessions: Sessions) -> None:
        self.now = 0.0
        self.loaded: list[UUID] = []
        self.loads = 0
        self._sessions = sessions
        self._turns = Turns(TURN_SECONDS, clock=lambda: self.now)

    def claim(self) -> Lease:
        loaded = self._turns.preferred(self.loaded)
        with self._sessions.begin() as session:
            lease = claim(
                session,
                queue="gpu",
                worker="w",
                lease_seconds=60,
                loaded=loaded,
                served=self._turns.served,
            )
        assert lease is not None
        self._turns.serve(lease.tenant_id)
        return lease

    def work(self) -> Lease:
        """Claim a job and finish it."""
        lease = self.claim()
        if self.loaded != [lease.language_model_id]:
            self.loaded = [lease.language_model_id]
            self.loads += 1
        self.now += JOB_SECONDS
        with self._sessions.begin() as session:
            take_for_finish(session, lease)
        self._turns.job_ended()
        return lease


@pytest.fixture
def worker(sessions: Sessions) -> Worker:
    return Worker(sessions)


@pytest.fixture
def start_audit(sessions: Sessions) -> Callable[..., Audit]:
    """An audit of a language model of its own, by a tenant of that name, cut into shards."""
    tenants: dict[str, UUID] = {}

    def start(tenant: str, shards: int, priority: int = 0) -> Audit:
        with sessions.begin() as session:
            if tenant not in tenants:
                tenants[tenant] = add_tenant(session, tenant)
            audit = add_audit_rows(session, tenants[tenant])
            audit.priority = priority
            for _ in range(shards):
                add_shard(session, audit, priority=priority)
            return audit

    return start


def test_a_score_request_of_another_language_model_comes_before_the_shards_of_a_running_audit(
    sessions: Sessions, worker: Worker, start_audit: Callable[..., Audit]
) -> None:
    audit = start_audit("acme", 10)
    assert worker.work().audit_id == audit.id
    request = start_audit("acme", 0, PRIORITY)
    with sessions.begin() as session:
        enqueue_audit(session, request)
    assert worker.work().audit_id == request.id
    assert worker.work().audit_id == audit.id


def test_a_validation_comes_before_the_shards_of_a_running_audit(
    sessions: Sessions, worker: Worker, start_audit: Callable[..., Audit]
) -> None:
    audit = start_audit("acme", 10)
    worker.work()
    with sessions.begin() as session:
        row = session.get_one(LanguageModel, add_ready_model(session, audit.tenant_id).id)
        enqueue_validation(session, row)
    assert worker.work().kind == "validate_language_model"


def test_a_loaded_language_model_is_preferred_within_a_priority(
    worker: Worker, start_audit: Callable[..., Audit]
) -> None:
    """Although the other tenant's shard is as urgent, and it would be fair to take that."""
    audit = start_audit("acme", 3)
    other = start_audit("globex", 1)
    assert [worker.work().audit_id for _ in range(4)] == [audit.id] * 3 + [other.id]
    assert worker.loads == 2


def test_without_a_preference_fairness_then_age_decide(
    sessions: Sessions, start_audit: Callable[..., Audit]
) -> None:
    audit, other = start_audit("acme", 3), start_audit("globex", 1)
    urgent = start_audit("acme", 1, priority=5)
    claimed = []
    for _ in range(5):
        with sessions.begin() as session:
            lease = claim(session, queue="gpu", worker="w", lease_seconds=60)
        assert lease is not None
        claimed.append(lease)
    # One job of the first tenant runs when the other's comes before its older ones.
    assert [lease.audit_id for lease in claimed] == [urgent.id, other.id] + [audit.id] * 3
    ages = [lease.job_id for lease in claimed[2:]]
    assert ages == sorted(ages)


def test_who_was_served_least_recently_comes_first(
    sessions: Sessions, start_audit: Callable[..., Audit]
) -> None:
    first, second, third = (start_audit(name, 1) for name in ("acme", "globex", "initech"))
    served = [first.tenant_id, second.tenant_id]
    for expected in (third, first, second):
        with sessions.begin() as session:
            lease = claim(session, queue="gpu", worker="w", lease_seconds=60, served=served)
            assert lease is not None
            assert lease.audit_id == expected.id
            take_for_finish(session, lease)


@pytest.mark.parametrize("tenants", [2, 3])
def test_each_tenant_waits_a_bounded_time_and_models_are_seldom_exchanged(
    worker: Worker, start_audit: Callable[..., Audit], tenants: int
) -> None:
    """Each has enough to do for all; the turn of each lasts as long as was said, and one job more."""
    audits = [start_audit(f"tenant-{number}", 40) for number in range(tenants)]
    bound = (tenants - 1) * (TURN_SECONDS + 2 * JOB_SECONDS)
    last_served = {audit.tenant_id: 0.0 for audit in audits}
    for _ in range(60):
        began = worker.now
        tenant = worker.work().tenant_id
        assert began - last_served[tenant] <= bound
        last_served[tenant] = worker.now
    assert all(worker.now - served <= bound for served in last_served.values())
    assert worker.loads <= worker.now / TURN_SECONDS + 1


def test_older_work_of_the_same_tenant_waits_a_bounded_time_too(
    worker: Worker, start_audit: Callable[..., Audit]
) -> None:
    """Newer work of the loaded language model keeps coming."""
    start_audit("acme", 1)
    worker.work()
    old = start_audit("acme", 30)
    worker.loaded = [start_audit("acme", 100).language_model_id]
    while worker.work().audit_id != old.id:
        assert worker.now <= TURN_SECONDS + 2 * JOB_SECONDS


@pytest.mark.parametrize("best", [2, 64])
def test_any_queue_is_claimed_in_the_order_of_the_rules(
    sessions: Sessions, start_audit: Callable[..., Audit], monkeypatch: pytest.MonkeyPatch, best: int
) -> None:
    """By the rules as a sort of all jobs, while others hold some of the best of them."""
    monkeypatch.setattr(claiming, "_BEST", best)
    dice = random.Random(best)
    audits = [
        start_audit(name, 2, priority) for name in ("acme", "globex", "initech") for priority in (0, 0, 5)
    ]
    loaded = [dice.choice(audits).language_model_id]
    served = [audits[0].tenant_id, audits[3].tenant_id]
    with sessions() as session:
        jobs = list(session.scalars(select(Job)))
    running: Counter[UUID] = Counter()

    def rank(job: Job) -> tuple[Any, ...]:
        turn = served.index(job.tenant_id) + 1 if job.tenant_id in served else 0
        return -job.priority, job.language_model_id not in loaded, running[job.tenant_id], turn, job.id

    while jobs:
        jobs.sort(key=rank)
        held = jobs[: dice.randrange(min(len(jobs), best + 2))]
        with sessions.begin() as holder, sessions.begin() as session:
            ids = [job.id for job in held]
            holder.execute(select(Job.id).where(Job.id.in_(ids)).with_for_update())
            lease = claim(session, queue="gpu", worker="w", lease_seconds=60, loaded=loaded, served=served)
        assert lease is not None
        assert lease.job_id == jobs.pop(len(held)).id
        running[lease.tenant_id] += 1


def test_a_long_queue_is_not_sorted_as_a_whole(sessions: Sessions, start_audit: Callable[..., Audit]) -> None:
    start_audit("acme", 200)
    statements: list[tuple[str, Any]] = []
    with sessions.begin() as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        assert claim(session, queue="gpu", worker="w", lease_seconds=60)
        ((statement, parameters),) = statements
        explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}", parameters)
        assert "top-N heapsort" in "\n".join(explained.scalars())


def test_a_claim_finds_the_waiting_jobs_by_their_index(
    sessions: Sessions, start_audit: Callable[..., Audit]
) -> None:
    """Not by reading all jobs that ever were."""
    audit = start_audit("acme", 1)
    # The ended jobs that fill the table.
    copy = """
        INSERT INTO jobs (id, kind, queue, tenant_id, language_model_id, payload, state, priority, epoch,
                          attempts, progress)
        SELECT gen_random_uuid(), kind, queue, tenant_id, language_model_id, payload, 'succeeded', 0, 1, 1, 0
        FROM jobs, generate_series(1, 20000)
    """
    with sessions.begin() as session:
        session.execute(text(copy))
    with sessions.begin() as session:
        session.execute(text("ANALYZE jobs"))
    statements: list[tuple[str, Any]] = []
    with sessions.begin() as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        assert claim(session, queue="gpu", worker="w", lease_seconds=60, loaded=[audit.language_model_id])
    ((statement, parameters),) = statements
    with sessions.begin() as session:
        explained = session.connection().exec_driver_sql(f"EXPLAIN {statement}", parameters)
        plan = "\n".join(explained.scalars())
    assert "ix_jobs_claimable" in plan
    assert "Seq Scan on jobs" not in plan
