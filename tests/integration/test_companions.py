"""Companion audits on a real Postgres: what waits for them ends once, with them or because of them."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, sessionmaker

from app.errors import JobCrashed, ResourceInUse
from app.store.audits import Audit
from app.store.companions import CompanionRole, link_audit
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.deletion import erase_text_set
from app.store.enqueueing import enqueue_validation
from app.store.jobs.claiming import claim
from app.store.jobs.job import Job, JobState
from app.store.jobs.kinds import SUMMARIZE_AUDIT
from app.store.jobs.leases import Lease, postpone
from app.store.jobs.owners import AUDIT
from app.store.jobs.sweeping import sweep_leases
from app.store.jobs.waiting import waiting_jobs
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.lifecycle import cancel_operation, complete_shard, fail_job, fail_owner, succeed_audit, tell
from app.store.operations import OperationStatus
from app.store.telling import find_untold
from tests.integration.rows import add_audit_rows, add_shard, add_tenant

Sessions = sessionmaker[Session]


@dataclass(frozen=True)
class Family:
    """An audit of ten texts and the two companions that it waits for."""

    tenant_id: UUID
    owner: UUID
    control: UUID
    reference: UUID


@pytest.fixture
def sessions(database_url: str) -> Iterator[Sessions]:
    engine = sync_engine(database_url, pool_size=5)
    yield sync_sessions(engine)
    engine.dispose()


@pytest.fixture
def family(sessions: Sessions) -> Family:
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        owner, control, reference = (add_audit_rows(session, tenant_id) for _ in range(3))
        link_audit(session, AUDIT, owner.id, control, CompanionRole.CONTROL)
        link_audit(session, AUDIT, owner.id, reference, CompanionRole.REFERENCE)
        return Family(tenant_id, owner.id, control.id, reference.id)


def score_all(sessions: Sessions, audit_id: UUID) -> int:
    with sessions.begin() as session:
        return complete_shard(session, audit_id, 10)


def succeed(sessions: Sessions, audit_id: UUID) -> None:
    with sessions.begin() as session:
        succeed_audit(session, audit_id, {})


def cancel(sessions: Sessions, family: Family, audit_id: UUID) -> None:
    with sessions.begin() as session:
        cancel_operation(session, Audit, family.tenant_id, audit_id)


def reread(sessions: Sessions, audit_id: UUID) -> Audit:
    with sessions() as session:
        return session.get_one(Audit, audit_id)


def statuses(sessions: Sessions, family: Family) -> list[str]:
    return [reread(sessions, each).status for each in (family.owner, family.control, family.reference)]


def take_shard_of(sessions: Sessions, audit_id: UUID) -> Lease:
    with sessions.begin() as session:
        add_shard(session, session.get_one(Audit, audit_id))
    with sessions.begin() as session:
        lease = claim(session, queue="gpu", worker="w", lease_seconds=60)
    assert lease is not None
    return lease


def finishing_jobs(sessions: Sessions, audit_id: UUID) -> int:
    with sessions() as session:
        conditions = (Job.owner_id == audit_id, Job.kind == SUMMARIZE_AUDIT.name)
        return session.scalars(select(func.count()).select_from(Job).where(*conditions)).one()


@pytest.mark.parametrize("order", [("owner", "control", "reference"), ("control", "reference", "owner")])
def test_the_last_of_all_enqueues_the_finishing_job(
    sessions: Sessions, family: Family, order: tuple[str, ...]
) -> None:
    for place, name in enumerate(order):
        assert finishing_jobs(sessions, family.owner) == 0, place
        if name == "owner":
            assert score_all(sessions, family.owner) == (place == 2)
        else:
            succeed(sessions, getattr(family, name))
    assert finishing_jobs(sessions, family.owner) == 1
    with sessions.begin() as session:
        lease = claim(session, queue="cpu", worker="w", lease_seconds=60)
    assert lease is not None
    assert (lease.kind, lease.owner_id) == (SUMMARIZE_AUDIT.name, family.owner)


def test_of_ends_at_once_exactly_one_enqueues(sessions: Sessions, family: Family) -> None:
    """Each transaction is held open after its own end, so that without a lock none would see the others."""
    ends: list[Callable[[Session], object]] = [
        lambda session: complete_shard(session, family.owner, 10),
        lambda session: succeed_audit(session, family.control, {}),
        lambda session: succeed_audit(session, family.reference, {}),
    ]
    together = threading.Barrier(len(ends))

    def run(write: Callable[[Session], object]) -> None:
        with sessions.begin() as session:
            session.execute(select(1))
            together.wait(10)
            write(session)
            session.flush()
            time.sleep(0.2)

    with ThreadPoolExecutor() as threads:
        list(threads.map(run, ends))
    assert finishing_jobs(sessions, family.owner) == 1


def test_a_companion_that_fails_fails_its_owner_and_ends_the_others(
    sessions: Sessions, family: Family
) -> None:
    lease = take_shard_of(sessions, family.control)
    with sessions.begin() as session:
        fail_job(session, lease, JobCrashed("It broke.").problem())
    assert statuses(sessions, family) == ["failed", "failed", "cancelled"]
    error = reread(sessions, family.owner).error
    assert error is not None
    assert error["type"].endswith("/companion-failed")
    assert format_id(Prefix.AUDIT, family.control) in error["detail"]
    assert "It broke." in error["detail"]


def test_a_companion_that_the_client_cancels_fails_its_owner(sessions: Sessions, family: Family) -> None:
    cancel(sessions, family, family.reference)
    assert statuses(sessions, family) == ["failed", "cancelled", "cancelled"]
    error = reread(sessions, family.owner).error
    assert error is not None
    assert error["detail"].endswith("was cancelled.")


def test_an_owner_that_is_cancelled_cancels_what_is_open(sessions: Sessions, family: Family) -> None:
    succeed(sessions, family.control)
    cancel(sessions, family, family.owner)
    assert statuses(sessions, family) == ["cancelled", "succeeded", "cancelled"]


def test_a_companion_that_another_waits_for_goes_on(sessions: Sessions, family: Family) -> None:
    with sessions.begin() as session:
        other = add_audit_rows(session, family.tenant_id)
        link_audit(session, AUDIT, other.id, session.get_one(Audit, family.control), CompanionRole.CONTROL)
    cancel(sessions, family, family.owner)
    assert statuses(sessions, family) == ["cancelled", "queued", "cancelled"]
    cancel(sessions, family, other.id)
    assert statuses(sessions, family) == ["cancelled", "cancelled", "cancelled"]


def test_owners_of_owners_are_told(sessions: Sessions, family: Family) -> None:
    with sessions.begin() as session:
        grand = add_audit_rows(session, family.tenant_id)
        link_audit(session, AUDIT, grand.id, session.get_one(Audit, family.owner), "member")
    cancel(sessions, family, family.control)
    assert reread(sessions, grand.id).status == OperationStatus.FAILED
    assert statuses(sessions, family) == ["failed", "cancelled", "cancelled"]


def test_cancelling_waits_for_no_companion_that_is_ending(sessions: Sessions, family: Family) -> None:
    """The companion holds its own row and will ask for the owner's, which the cancellation holds."""
    with sessions() as ending, sessions() as cancelling:
        ending.get_one(Audit, family.control, with_for_update={"key_share": True})
        cancelling.execute(text("SET LOCAL lock_timeout = '1s'"))
        cancel_operation(cancelling, Audit, family.tenant_id, family.owner)
        with ThreadPoolExecutor() as threads:
            told = threads.submit(succeed_audit, ending, family.control, {})
            cancelling.commit()
            told.result(10)
        ending.commit()
    assert statuses(sessions, family) == ["cancelled", "succeeded", "cancelled"]
    assert finishing_jobs(sessions, family.owner) == 0


def test_the_sweep_ends_a_companion_whose_row_was_held(sessions: Sessions, family: Family) -> None:
    with sessions.begin() as session:
        add_shard(session, session.get_one(Audit, family.control))
    with sessions() as scoring:
        scoring.get_one(Audit, family.control, with_for_update={"key_share": True})
        cancel(sessions, family, family.owner)
    assert statuses(sessions, family) == ["cancelled", "queued", "cancelled"]
    with sessions.begin() as session:
        sweep_leases(session, max_attempts=3)
    assert statuses(sessions, family) == ["cancelled", "cancelled", "cancelled"]
    with sessions() as session:
        assert session.scalars(select(Job.state)).all() == [JobState.CANCELLED]


def test_the_sweep_leaves_companions_that_are_waited_for(sessions: Sessions, family: Family) -> None:
    with sessions.begin() as session:
        add_shard(session, session.get_one(Audit, family.control))
        sweep_leases(session, max_attempts=3)
    assert statuses(sessions, family) == ["queued", "queued", "queued"]


def test_a_rejected_language_model_is_what_its_audits_fail_with(sessions: Sessions, family: Family) -> None:
    """The audit itself says so, and not that its companion failed."""
    with sessions.begin() as session:
        model = session.get_one(LanguageModel, session.get_one(Audit, family.owner).language_model_id)
        model.status = LanguageModelStatus.QUEUED
        session.get_one(Audit, family.control).language_model_id = model.id
        job = enqueue_validation(session, model)
        session.flush()
        fail_owner(session, job, JobCrashed("No such checkpoint.").problem())
    assert statuses(sessions, family) == ["failed", "cancelled", "cancelled"]
    error = reread(sessions, family.owner).error
    assert error is not None
    assert error["type"].endswith("/language-model-rejected")


def test_what_a_companion_waits_for_its_owner_waits_for(sessions: Sessions, family: Family) -> None:
    lease = take_shard_of(sessions, family.reference)
    with sessions.begin() as session:
        postpone(session, lease, JobCrashed("Away.").problem(), delay_seconds=60)
    with sessions() as session:
        waiting = waiting_jobs(session, [session.get_one(Audit, family.owner)])
        assert waiting[family.owner].id == lease.job_id


def test_control_texts_are_kept_until_the_owner_has_ended(sessions: Sessions, family: Family) -> None:
    """The finishing job compares them with the audited texts."""
    succeed(sessions, family.control)
    text_set_id = reread(sessions, family.control).text_set_id
    with pytest.raises(ResourceInUse), sessions.begin() as session:
        erase_text_set(session, family.tenant_id, text_set_id, None)
    cancel(sessions, family, family.owner)
    with sessions.begin() as session:
        erased, _ = erase_text_set(session, family.tenant_id, text_set_id, None)
        assert erased.deleted_at is not None


@pytest.mark.parametrize(("ended", "owner"), [("cancelled", "failed"), ("succeeded", "queued")])
def test_an_owner_is_told_of_ends_that_an_older_process_wrote(
    sessions: Sessions, family: Family, ended: str, owner: str
) -> None:
    score_all(sessions, family.owner)
    with sessions.begin() as session:
        ids = [family.control, family.reference]
        statement = text("UPDATE audits SET status = :status WHERE id = ANY(:ids)")
        session.execute(statement, {"status": ended, "ids": ids})
    with sessions() as session:
        untold = find_untold(session)
    # As two sweeps do that found the same.
    for each in untold * 2:
        with sessions.begin() as session:
            tell(session, *each)
    assert reread(sessions, family.owner).status == owner
    assert finishing_jobs(sessions, family.owner) == (ended == "succeeded")
    with sessions() as session:
        assert find_untold(session) == []
