"""A Hypothesis state machine over the job table: every statement on leases, in any order, against a model.

Several workers claim, beat, finish, crash before the commit, let jobs go and come back late with old leases;
leases run out, sweeps and cancellations come in between, also in the middle of a finishing transaction. After
each step the rows must be what the model says.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.errors import AlreadyTerminal, HubUnreachable, JobCrashed
from app.store.audits import Audit
from app.store.enqueueing import enqueue_shards
from app.store.jobs.claiming import claim
from app.store.jobs.kinds import SUMMARIZE_AUDIT
from app.store.jobs.leases import (
    Lease,
    LeaseLost,
    close_cancelled,
    heartbeat,
    is_held,
    postpone,
    release,
    requeue,
    take_for_finish,
)
from app.store.jobs.sweeping import jobs_to_ring, sweep_leases
from app.store.lifecycle import cancel_operation, complete_shard, fail_job, succeed_audit
from app.store.scores import copy_scores
from tests.integration.rows import add_audit_rows, add_tenant, score_row

MAX_ATTEMPTS = 3
LEASE_SECONDS = 3600.0
SHARD_TEXTS = 2
OPEN = ("queued", "running")
ACTIVE = ("queued", "running")
RUN_OUT = "UPDATE jobs SET lease_expires_at = clock_timestamp() - interval '1 s' WHERE id = :id"

# Whatever has ended stays as it is, also within a transaction.
GUARD = """
    CREATE OR REPLACE FUNCTION refuse_ended() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'a row that has ended is changed'; END $$;
    CREATE OR REPLACE TRIGGER refuse_ended BEFORE UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.state NOT IN ('queued', 'running')) EXECUTE FUNCTION refuse_ended();
    CREATE OR REPLACE TRIGGER refuse_ended BEFORE UPDATE ON audits FOR EACH ROW
    WHEN (OLD.status NOT IN ('queued', 'running')) EXECUTE FUNCTION refuse_ended();
"""

places = st.integers(0, 10_000)
workers = st.sampled_from(("a", "b", "c"))


@dataclass
class ModelJob:
    """A job as it should stand."""

    audit: UUID
    state: str = "queued"
    epoch: int = 0
    attempts: int = 0
    expired: bool = False


@dataclass
class ModelAudit:
    """An audit as it should stand: shards of `SHARD_TEXTS` each, and how many of them are committed."""

    shards: int
    status: str = "queued"
    committed: int = 0


class JobTable(RuleBasedStateMachine):
    """Any order of statements; a subclass says on which database."""

    sessions: ClassVar[sessionmaker[Session]]

    @initialize()
    def begin(self) -> None:
        self.jobs: dict[UUID, ModelJob] = {}
        self.audits: dict[UUID, ModelAudit] = {}
        # All that were ever given, so that old ones come back too.
        self.leases: list[Lease] = []
        with self.sessions.begin() as session:
            session.execute(text("DELETE FROM tenants"))
            self.tenant = add_tenant(session)

    @precondition(lambda self: len(self.audits) < 3)
    @rule(shards=st.integers(1, 3))
    def request_an_audit(self, shards: int) -> None:
        with self.sessions.begin() as session:
            audit = add_audit_rows(session, self.tenant, texts=shards * SHARD_TEXTS)
            bounds = [(place * SHARD_TEXTS, (place + 1) * SHARD_TEXTS) for place in range(shards)]
            enqueue_shards(session, audit, bounds)
        self.audits[audit.id] = ModelAudit(shards)
        self.learn_jobs(audit.id)

    def learn_jobs(self, audit_id: UUID) -> None:
        """Jobs that were added for an audit; the model knows how many there must be."""
        query = text("SELECT id FROM jobs WHERE owner_id = :owner")
        with self.sessions() as session:
            for job_id in session.scalars(query, {"owner": audit_id}):
                self.jobs.setdefault(job_id, ModelJob(audit_id))

    def queued(self) -> set[UUID]:
        return {job_id for job_id, job in self.jobs.items() if job.state == "queued"}

    def is_current(self, lease: Lease) -> bool:
        job = self.jobs[lease.job_id]
        return job.state == "running" and job.epoch == lease.epoch

    def is_active(self, audit_id: UUID) -> bool:
        return self.audits[audit_id].status in ACTIVE

    def claimed(self, lease: Lease | None, among: set[UUID]) -> None:
        """A claim that was committed must have got one of these, if there is any."""
        assert (lease is None) == (not among)
        if lease is None:
            return
        assert lease.job_id in among
        job = self.jobs[lease.job_id]
        job.state, job.expired = "running", False
        job.epoch, job.attempts = job.epoch + 1, job.attempts + 1
        assert (lease.epoch, lease.attempts) == (job.epoch, job.attempts)
        self.leases.append(lease)

    def take(self, session: Session, worker: str) -> Lease | None:
        return claim(session, queue="gpu", worker=worker, lease_seconds=LEASE_SECONDS)

    @rule(worker=workers)
    def claim_a_job(self, worker: str) -> None:
        with self.sessions.begin() as session:
            lease = self.take(session, worker)
        self.claimed(lease, self.queued())

    @rule(dies=st.booleans())
    def two_claim_at_once(self, dies: bool) -> None:
        """The second passes over what the first holds; the first may die before its commit."""
        free = self.queued()
        with self.sessions() as holder:
            first = self.take(holder, "a")
            with self.sessions.begin() as session:
                second = self.take(session, "b")
            assert first is None or second is None or first.job_id != second.job_id
            if dies:
                holder.rollback()
            else:
                holder.commit()
        held = set() if first is None else {first.job_id}
        self.claimed(second, free - held)
        if not dies:
            self.claimed(first, held)

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def beat(self, place: int) -> None:
        lease = self.lease(place)
        wanted = self.is_current(lease) and self.is_active(lease.owner_id)
        with self.sessions.begin() as session:
            assert is_held(session, lease) == wanted
            assert heartbeat(session, lease, lease_seconds=LEASE_SECONDS, progress=1) == wanted
        if wanted:
            self.jobs[lease.job_id].expired = False

    def lease(self, place: int) -> Lease:
        return self.leases[place % len(self.leases)]

    def write(self, session: Session, lease: Lease) -> None:
        """The effect of a job: rows of a shard, or the end of its audit."""
        if lease.kind == SUMMARIZE_AUDIT.name:
            succeed_audit(session, lease.owner_id, {})
            return
        ordinals = range(lease.payload["start"], lease.payload["stop"])
        copy_scores(session, [score_row(lease.owner_id, ordinal, -1.0) for ordinal in ordinals])
        complete_shard(session, lease.owner_id, SHARD_TEXTS)

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def finish(self, place: int) -> None:
        lease = self.lease(place)
        with self.maybe_lost(lease, and_active=True) as session:
            take_for_finish(session, lease)
            self.write(session, lease)
        self.finished(lease)

    def finished(self, lease: Lease) -> None:
        if not (self.is_current(lease) and self.is_active(lease.owner_id)):
            return
        audit = self.audits[lease.owner_id]
        self.jobs[lease.job_id].state = "succeeded"
        if lease.kind == SUMMARIZE_AUDIT.name:
            self.end(lease.owner_id, "succeeded")
            return
        audit.committed += 1
        self.learn_jobs(lease.owner_id)
        own = sum(job.audit == lease.owner_id for job in self.jobs.values())
        assert own == audit.shards + (audit.committed == audit.shards)

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def die_before_the_commit(self, place: int) -> None:
        lease = self.lease(place)
        with self.sessions() as session:
            try:
                take_for_finish(session, lease)
                self.write(session, lease)
            except LeaseLost:
                assert not (self.is_current(lease) and self.is_active(lease.owner_id))
            session.rollback()

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def cancel_while_a_job_finishes(self, place: int) -> None:
        """The cancellation passes over the row that is held; the finish then gives way."""
        lease = self.lease(place)
        if not (self.is_current(lease) and self.is_active(lease.owner_id)):
            return
        with self.sessions() as session:
            take_for_finish(session, lease)
            with self.sessions.begin() as other:
                cancel_operation(other, Audit, self.tenant, lease.owner_id)
            with pytest.raises(LeaseLost):
                self.write(session, lease)
            session.rollback()
        self.end(lease.owner_id, "cancelled", but=lease.job_id)

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def drop(self, place: int) -> None:
        """What a worker does that learns that its lease is lost."""
        lease = self.lease(place)
        if self.is_current(lease) and self.is_active(lease.owner_id):
            return
        with self.sessions.begin() as session:
            close_cancelled(session, lease)
        if self.is_current(lease):
            self.jobs[lease.job_id].state = "cancelled"

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def try_again(self, place: int) -> None:
        lease = self.lease(place)
        if lease.attempts >= MAX_ATTEMPTS:
            return
        with self.maybe_lost(lease) as session:
            requeue(session, lease, JobCrashed("It broke.").problem(), delay_seconds=0)
        self.put_back(lease, tried=True)

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def wait_for_what_is_away(self, place: int) -> None:
        lease = self.lease(place)
        with self.maybe_lost(lease) as session:
            postpone(session, lease, HubUnreachable("It is away.").problem(), delay_seconds=0)
        self.put_back(lease, tried=False)

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def hand_back(self, place: int) -> None:
        lease = self.lease(place)
        with self.sessions.begin() as session:
            release(session, lease)
        self.put_back(lease, tried=False)

    def put_back(self, lease: Lease, *, tried: bool) -> None:
        if self.is_current(lease):
            job = self.jobs[lease.job_id]
            job.state, job.attempts = "queued", job.attempts - (not tried)

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def give_up(self, place: int) -> None:
        lease = self.lease(place)
        with self.maybe_lost(lease) as session:
            fail_job(session, lease, JobCrashed("It broke.").problem())
        if self.is_current(lease):
            self.jobs[lease.job_id].state = "failed"
            self.end(lease.owner_id, "failed")

    @precondition(lambda self: self.leases)
    @rule(place=places)
    def let_a_lease_run_out(self, place: int) -> None:
        """Time passes without a heartbeat."""
        self.run_out(self.lease(place).job_id)

    def run_out(self, job_id: UUID) -> None:
        if self.jobs[job_id].state != "running":
            return
        with self.sessions.begin() as session:
            session.execute(text(RUN_OUT), {"id": job_id})
        self.jobs[job_id].expired = True

    @rule()
    def sweep(self) -> None:
        swept = 0
        while True:
            with self.sessions.begin() as session:
                expired = len(sweep_leases(session, max_attempts=MAX_ATTEMPTS))
            if not expired:
                break
            swept += expired
        self.swept(swept)

    def swept(self, expired: int) -> None:
        run_out = {job_id for job_id, job in self.jobs.items() if job.state == "running" and job.expired}
        given_up = {job_id for job_id in run_out if self.jobs[job_id].attempts >= MAX_ATTEMPTS}
        for job_id in run_out - given_up:
            self.jobs[job_id].state = "queued"
        # Of several of one audit the first fails it, and it cancels the others; which is first, is free.
        found = self.states()
        failed = {job_id for job_id in given_up if found[job_id][0] == "failed"}
        owners = {self.jobs[job_id].audit for job_id in given_up}
        assert {self.jobs[job_id].audit for job_id in failed} == owners
        for job_id in failed:
            self.jobs[job_id].state = "failed"
        for owner in owners:
            self.end(owner, "failed")
        for job in self.jobs.values():
            if job.state == "queued" and not self.is_active(job.audit):
                job.state = "cancelled"
        assert len(run_out) - len(given_up - failed) <= expired <= len(run_out)

    @precondition(lambda self: self.audits)
    @rule(place=places)
    def cancel(self, place: int) -> None:
        audit_id = list(self.audits)[place % len(self.audits)]
        with self.sessions() as session:
            if self.is_active(audit_id):
                cancel_operation(session, Audit, self.tenant, audit_id)
            else:
                with pytest.raises(AlreadyTerminal):
                    cancel_operation(session, Audit, self.tenant, audit_id)
            session.commit()
        self.end(audit_id, "cancelled")

    @rule()
    def ring(self) -> None:
        with self.sessions.begin() as session:
            bells = jobs_to_ring(session, stale_seconds=0)
        assert bool(bells) == bool(self.queued())

    def end(self, audit_id: UUID, status: str, *, but: UUID | None = None) -> None:
        """An audit ends if it has not, and takes its open jobs with it."""
        if not self.is_active(audit_id):
            return
        self.audits[audit_id].status = status
        for job_id, job in self.jobs.items():
            if job.audit == audit_id and job.state in OPEN and job_id != but:
                job.state = "cancelled"

    @contextmanager
    def maybe_lost(self, lease: Lease, *, and_active: bool = False) -> Iterator[Session]:
        """A transaction that must find its lease lost exactly when the model says so."""
        stands = self.is_current(lease) and (not and_active or self.is_active(lease.owner_id))
        if stands:
            with self.sessions.begin() as session:
                yield session
        else:
            with pytest.raises(LeaseLost), self.sessions.begin() as session:
                yield session

    def states(self) -> dict[UUID, tuple[Any, ...]]:
        with self.sessions() as session:
            return {
                row[0]: tuple(row[1:])
                for row in session.execute(text("SELECT id, state, epoch, attempts FROM jobs"))
            }

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        assert self.states() == {
            job_id: (job.state, job.epoch, job.attempts) for job_id, job in self.jobs.items()
        }
        rows = "(SELECT count(*) FROM scores WHERE audit_id = audits.id)"
        query = text(f"SELECT id, status, texts_done, {rows} FROM audits")
        with self.sessions() as session:
            found = {row[0]: tuple(row[1:]) for row in session.execute(query)}
        assert found == {
            audit_id: (audit.status, *[audit.committed * SHARD_TEXTS] * 2)
            for audit_id, audit in self.audits.items()
        }

    @invariant()
    def what_succeeded_is_whole(self) -> None:
        for audit in self.audits.values():
            assert audit.status != "succeeded" or audit.committed == audit.shards

    def teardown(self) -> None:
        """Whatever happened, all work ends once a worker lives that does it."""
        for lease in self.drain():
            with self.sessions.begin() as session:
                take_for_finish(session, lease)
                self.write(session, lease)
            self.finished(lease)
        assert not [audit for audit in self.audits.values() if audit.status in ACTIVE]
        self.rows_are_what_the_model_says()

    def drain(self) -> Iterator[Lease]:
        for job_id in list(self.jobs):
            self.run_out(job_id)
        self.sweep()
        while self.queued():
            self.claim_a_job("last")
            yield self.leases[-1]


def run_orders(
    sessions: sessionmaker[Session], *, examples: int, steps: int, seed: int | None = None
) -> None:
    """Try orders of statements on a database, all of whose tenants are deleted again and again.

    Args:
        sessions: of that database.
        examples: how many orders.
        steps: the most statements in one.
        seed: of the orders; the same ones each time if there is none.

    Raises:
        Exception: whatever the shortest order raises that breaks the model; it is printed.
    """
    with sessions.begin() as session:
        session.execute(text(GUARD))
    machine = type("JobTableHere", (JobTable,), {"sessions": sessions})
    if seed is not None:
        machine._hypothesis_internal_use_seed = seed
    limits = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=seed is None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=limits)
