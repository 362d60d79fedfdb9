"""Whose job is claimed next, on a real Postgres: nobody waits for the whole of another's work."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.orm import Session, sessionmaker

from app.scoring.service import PRIORITY
from app.store.audits import Audit
from app.store.enqueueing import enqueue_audit, enqueue_validation
from app.store.jobs import claiming, lines
from app.store.jobs.claiming import claim, others_wait
from app.store.jobs.job import Job
from app.store.jobs.leases import Lease, take_for_finish
from app.store.language_models import LanguageModel
from tests.integration.rows import add_audit_rows, add_ready_model, add_shard, add_tenant
from workers.running import turns
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
                last=self._turns.last,
            )
        assert lease is not None
        self._turns.serve(lease)
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


def take(sessions: Sessions, **options: Any) -> Lease:
    """Claim a job and keep it."""
    with sessions.begin() as session:
        lease = claim(session, queue="gpu", worker="beside", lease_seconds=60, **options)
    assert lease is not None
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


def test_a_shard_gives_way_to_what_a_claim_would_take_first(
    sessions: Sessions, start_audit: Callable[..., Audit]
) -> None:
    def waits(lease: Lease) -> bool:
        with sessions.begin() as session:
            return others_wait(session, lease, "gpu")

    start_audit("acme", 4)
    lease = take(sessions)
    assert not waits(lease), "there is more of the same tenant alone"
    start_audit("globex", 2)
    assert not waits(lease), "nobody else works for the tenant, whose turn lasts"
    take(sessions, loaded=[lease.language_model_id])
    with sessions.begin() as session:
        session.execute(update(Job).where(Job.state == "running").values(tenant_id=lease.tenant_id))
    assert waits(lease), "nobody works for the other tenant, and two for this one"
    take(sessions)
    assert not waits(lease), "somebody works for the other tenant"
    start_audit("initech", 1, priority=-1)
    assert not waits(lease), "what is less urgent waits"
    start_audit("acme", 1, priority=1)
    assert waits(lease), "what is more urgent does not, whoever asks for it"


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


def test_a_tenant_without_any_running_job_does_not_wait_for_a_loaded_language_model(
    sessions: Sessions, worker: Worker, start_audit: Callable[..., Audit]
) -> None:
    """While another worker has a job of the loaded one's tenant. With a job each, both keep to their own."""
    audit = start_audit("acme", 4)
    worker.work()
    beside = take(sessions)
    assert beside.audit_id == audit.id
    other = start_audit("globex", 4)
    assert worker.work().audit_id == other.id
    worker.loaded = [audit.language_model_id]
    theirs = take(sessions, served=[audit.tenant_id])
    assert theirs.audit_id == other.id
    assert worker.work().audit_id == audit.id


@pytest.mark.parametrize("seed", [2, 64])
def test_any_queue_is_claimed_in_the_order_of_the_rules(
    sessions: Sessions, start_audit: Callable[..., Audit], seed: int
) -> None:
    """By the rules as a sort of all lines, while others hold some of the first jobs."""
    dice = random.Random(seed)
    audits = [
        start_audit(name, 2, priority) for name in ("acme", "globex", "initech") for priority in (0, 0, 5)
    ]
    loaded = [dice.choice(audits).language_model_id]
    served = [audits[0].tenant_id, audits[3].tenant_id]
    with sessions.begin() as session:
        jobs = list(session.scalars(select(Job).order_by(Job.id)))
        # Tried again: their pauses ended in another order than that of their ids.
        for job, minutes in zip(jobs[::3], dice.sample(range(60), 60), strict=False):
            job.error, job.available_at = {}, job.available_at - timedelta(minutes=minutes)
    running: Counter[UUID] = Counter()
    while jobs:
        in_order = ranked(jobs, loaded, served, running)
        held = in_order[: dice.randrange(min(len(jobs), seed + 2))]
        with sessions.begin() as holder, sessions.begin() as session:
            ids = [job.id for job in held]
            holder.execute(select(Job.id).where(Job.id.in_(ids)).with_for_update())
            lease = claim(session, queue="gpu", worker="w", lease_seconds=60, loaded=loaded, served=served)
        assert lease is not None
        assert lease.job_id == in_order[len(held)].id
        jobs.remove(in_order[len(held)])
        running[lease.tenant_id] += 1


def ranked(jobs: list[Job], loaded: list[UUID], served: list[UUID], running: Counter[UUID]) -> list[Job]:
    """All jobs in the order of the rules: lines by their first jobs, each by age or by the end of pauses."""
    lines: dict[tuple[Any, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        again, is_loaded = job.error is not None, job.language_model_id in loaded
        lines[job.priority, job.tenant_id, False, again].append(job)
        if is_loaded:
            lines[job.priority, job.tenant_id, True, again].append(job)

    def place(job: Job) -> Any:
        return job.available_at if job.error is not None else job.id

    def rank(key: tuple[Any, ...]) -> tuple[Any, ...]:
        priority, tenant_id, is_loaded, _ = key
        turn = served.index(tenant_id) + 1 if tenant_id in served else 0
        first = min(lines[key], key=place)
        return -priority, running[tenant_id] > 0, not is_loaded, running[tenant_id], turn, first.id

    return list(
        dict.fromkeys(job for key in sorted(lines, key=rank) for job in sorted(lines[key], key=place))
    )


def test_two_that_claim_at_once_get_different_jobs(
    sessions: Sessions, start_audit: Callable[..., Audit]
) -> None:
    """Nothing twice, and nothing left behind, with as many at once as there are jobs."""
    start_audit("acme", 6)
    start_audit("globex", 2)

    def claimed(_: int) -> UUID:
        return take(sessions).job_id

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(claimed, range(8)))) == 8


def test_of_many_tenants_each_has_its_turn(
    sessions: Sessions, start_audit: Callable[..., Audit], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more than are looked at together, each with enough to do. One is always served: it is urgent."""
    monkeypatch.setattr(turns, "TENANTS_AT_ONCE", 4)
    monkeypatch.setattr(claiming, "TENANTS_AT_ONCE", 4)
    monkeypatch.setattr(lines, "_ALL_LINES", with_tenants_at_once(4))
    tenants = [start_audit(f"tenant-{number}", 4).tenant_id for number in range(11)]
    worker = Worker(sessions)
    for _ in range(3):
        lap = set()
        for _ in range(10):
            start_audit("tenant-3", 1, priority=5)
            assert worker.work().tenant_id == tenants[3]
            lap.add(worker.work().tenant_id)
        assert lap == set(tenants) - {tenants[3]}


def with_tenants_at_once(number: int) -> Any:
    """The statement that finds lines, made for so many tenants."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "TENANTS_AT_ONCE", number)
        return lines._all_lines()


def test_what_is_due_is_found_behind_any_number_of_jobs_that_pause(
    sessions: Sessions, start_audit: Callable[..., Audit]
) -> None:
    """Of more tenants than are looked at together."""
    pausing = [start_audit(f"tenant-{number}", 1) for number in range(lines.TENANTS_AT_ONCE + 1)]
    due = start_audit("acme", 2)
    with sessions.begin() as session:
        pause = update(Job).values(error={}, available_at=func.now() + timedelta(hours=1))
        session.execute(pause.where(Job.owner_id.in_([audit.id for audit in pausing])))
        session.execute(update(Job).values(error={}).where(Job.owner_id == due.id))
    assert {take(sessions).audit_id, take(sessions).audit_id} == {due.id}
    with sessions.begin() as session:
        assert claim(session, queue="gpu", worker="w", lease_seconds=60) is None


@pytest.mark.parametrize("analyzed", ["before", "after"])
@pytest.mark.parametrize(("error", "pause"), [("NULL", "0 s"), ("'{}'", "1 h")], ids=["new", "pausing"])
def test_a_claim_reads_no_more_of_a_long_queue(
    sessions: Sessions, start_audit: Callable[..., Audit], analyzed: str, error: str, pause: str
) -> None:
    """Nor of jobs that pause, nor of those that have ended; whatever Postgres takes for their number."""
    audits = [start_audit(name, 1) for name in ("acme", "globex", "initech")]
    fill = f"""
        INSERT INTO jobs (id, kind, queue, tenant_id, language_model_id, payload, state, priority, epoch,
                          attempts, progress, owner_kind, owner_id, error, available_at)
        SELECT gen_random_uuid(), kind, queue, tenant_id, language_model_id, payload, new_state, 0, 1, 1, 0,
               owner_kind, owner_id, {error}, now() + '{pause}'
        FROM jobs, generate_series(1, 3000), unnest(ARRAY['succeeded', 'queued']) new_state
    """
    for statement in ("ANALYZE jobs", fill) if analyzed == "before" else (fill, "ANALYZE jobs"):
        with sessions.begin() as session:
            session.execute(text(statement))
    statements: list[tuple[str, Any]] = []
    loaded = [audits[2].language_model_id]
    with sessions.begin() as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *call: statements.append((call[2], call[3])))
        assert claim(session, queue="gpu", worker="w", lease_seconds=60, loaded=loaded)
    with sessions.begin() as session:
        plans = [
            session.connection().exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            for statement, parameters in statements
        ]
        visited = [number for plan in plans for number in rows_visited(plan.scalar_one()[0]["Plan"])]
    assert len(visited) > 20
    assert max(visited) < 10


def rows_visited(plan: dict[str, Any]) -> Iterator[float]:
    """How many rows each node of a plan gave or left out."""
    loops = plan["Actual Loops"]
    yield loops * (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0))
    for part in plan.get("Plans", ()):
        yield from rows_visited(part)
