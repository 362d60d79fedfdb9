"""What the keeper of a lease tells the database while its job computes."""

from multiprocessing import get_context
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings
from app.store.jobs.claiming import claim
from app.store.jobs.job import Job
from app.store.jobs.kinds import RUN_EDIT
from app.store.jobs.queue import add_job
from tests.integration.rows import add_edit, add_tenant
from tests.live_service import until
from workers.running.lease_keeper import LeaseKeeper


def test_a_new_stage_is_shown_long_before_the_next_heartbeat(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        edit = add_edit(session, add_tenant(session))
        model, tenant, owner = edit.language_model_id, edit.tenant_id, edit.id
        add_job(session, RUN_EDIT, tenant_id=tenant, language_model_id=model, owner_id=owner)
    with sessions.begin() as session:
        lease = claim(session, queue="gpu", worker="w", lease_seconds=600, loaded=[])
    assert lease is not None
    settings = Settings(lease_seconds=600)  # a heartbeat every 100 seconds
    with LeaseKeeper(sessions, settings, lease, get_context("fork").Event()) as keeper:
        for stage in ("loading", "collecting_factors"):
            keeper.report(7, stage=stage)
            until(lambda shown=stage: reported(sessions, lease.job_id) == (7, shown), stage, 10)


def reported(sessions: sessionmaker[Session], job_id: UUID) -> tuple[int, str | None]:
    with sessions() as session:
        job = session.get_one(Job, job_id)
        return job.progress, job.stage
