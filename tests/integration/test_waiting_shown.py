"""What waits for something that is away says so, and for how long, and nobody else's does."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.errors import HubUnreachable, StorageUnavailable
from app.store.core.identifiers import Prefix, format_id
from app.store.enqueueing import enqueue_edit, enqueue_validation
from app.store.jobs.claiming import claim
from app.store.jobs.job import Job
from app.store.jobs.kinds import SUMMARIZE_AUDIT
from app.store.jobs.leases import Lease, postpone, release, requeue, take_for_finish
from app.store.jobs.queue import add_job
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.tenants import Tenant
from tests.integration.rows import add_audit_rows, add_edit, add_shard

Sessions = sessionmaker[Session]
ClaimJob = Callable[[], Awaitable[Lease]]
PROBLEM = StorageUnavailable("The artifact store cannot be used right now.").problem()


@pytest.fixture
def tenant(client: httpx.AsyncClient, sessions: Sessions) -> UUID:
    with sessions.begin() as session:
        return session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()


@pytest.fixture
def claim_job(sessions: Sessions) -> ClaimJob:
    """Claim the next job; the sweeper of the service, which runs in this thread, may hold it for a moment."""

    async def claim_next() -> Lease:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with sessions.begin() as session:
                lease = claim(session, queue="gpu", worker="w", lease_seconds=60)
            if lease is not None:
                return lease
            await asyncio.sleep(0.01)
        raise AssertionError("nothing can be claimed")

    return claim_next


async def read(client: httpx.AsyncClient, path: str) -> dict:
    response = await client.get(path)
    assert response.status_code == 200, response.text
    return response.json()


async def test_an_edit_waits_and_goes_on(
    editor: httpx.AsyncClient, tenant: UUID, sessions: Sessions, claim_job: ClaimJob
) -> None:
    with sessions.begin() as session:
        edit, other = add_edit(session, tenant), add_edit(session, tenant)
        enqueue_edit(session, edit)
    path = f"/v1/edits/{format_id(Prefix.EDIT, edit.id)}"
    assert (await read(editor, path))["waiting"] is None
    for attempts in (1, 2):
        lease = await claim_job()
        with sessions.begin() as session:
            postpone(session, lease, PROBLEM, delay_seconds=0.5)
        waiting = (await read(editor, path))["waiting"]
        assert waiting["reason"].items() >= PROBLEM.items()
        assert waiting["attempts"] == attempts
        since, next_try_at = (datetime.fromisoformat(waiting[name]) for name in ("since", "next_try_at"))
        assert (next_try_at - since).total_seconds() == pytest.approx(0.5 * attempts, abs=0.4)
    shown = {each["id"]: each["waiting"] for each in (await read(editor, "/v1/edits"))["data"]}
    assert shown == {
        path.rpartition("/")[2]: waiting,
        format_id(Prefix.EDIT, other.id): None,
    }
    lease = await claim_job()
    assert (await read(editor, path))["waiting"] is None
    with sessions.begin() as session:
        release(session, lease)
    # A worker that stops gives it back; what it waits for has not come back.
    assert (await read(editor, path))["waiting"]["attempts"] == 2
    with sessions.begin() as session:
        requeue(session, await claim_job(), PROBLEM, delay_seconds=0)
    assert (await read(editor, path))["waiting"] is None


async def test_an_audit_shows_the_shard_that_is_tried_next(
    client: httpx.AsyncClient, tenant: UUID, sessions: Sessions, claim_job: ClaimJob
) -> None:
    with sessions.begin() as session:
        audit, other = add_audit_rows(session, tenant), add_audit_rows(session, tenant)
        for _ in range(3):
            add_shard(session, audit)
        other.language_model_id = audit.language_model_id
        add_shard(session, other, priority=-1)
    path = f"/v1/audits/{format_id(Prefix.AUDIT, audit.id)}"
    for delay in (60, 30):
        lease = await claim_job()
        with sessions.begin() as session:
            postpone(session, lease, PROBLEM, delay_seconds=delay)
    waiting = (await read(client, path))["waiting"]
    with sessions() as session:
        next_one = session.get_one(Job, lease.job_id)
    assert datetime.fromisoformat(waiting["next_try_at"]) == next_one.available_at
    shown = [each["waiting"] for each in (await read(client, "/v1/audits"))["data"]]
    assert shown == [None, waiting]
    await client.post(f"{path}/cancel")
    assert (await read(client, path))["waiting"] is None


async def test_what_needs_a_language_model_waits_for_its_validation(
    client: httpx.AsyncClient,
    editor: httpx.AsyncClient,
    tenant: UUID,
    sessions: Sessions,
    claim_job: ClaimJob,
) -> None:
    with sessions.begin() as session:
        audit, unaffected = add_audit_rows(session, tenant), add_audit_rows(session, tenant)
        edit = add_edit(session, tenant)
        edit.language_model_id = audit.language_model_id
        model = session.get_one(LanguageModel, audit.language_model_id)
        model.status = LanguageModelStatus.QUEUED
        enqueue_validation(session, model)
    lease = await claim_job()
    problem = HubUnreachable("The hub did not answer.").problem()
    with sessions.begin() as session:
        postpone(session, lease, problem, delay_seconds=60)
    model_id = format_id(Prefix.LANGUAGE_MODEL, model.id)
    waiting = (await read(client, f"/v1/models/{model_id}"))["waiting"]
    assert waiting["reason"]["type"] == problem["type"]
    assert (await read(editor, f"/v1/edits/{format_id(Prefix.EDIT, edit.id)}"))["waiting"] == waiting
    shown = {each["id"]: each["waiting"] for each in (await read(client, "/v1/audits"))["data"]}
    assert shown == {
        format_id(Prefix.AUDIT, audit.id): waiting,
        format_id(Prefix.AUDIT, unaffected.id): None,
    }
    listed = {each["id"]: each["waiting"] for each in (await read(client, "/v1/models"))["data"]}
    assert [waiting for waiting in listed.values() if waiting] == [listed[model_id]] == [waiting]


async def test_a_job_that_was_done_waits_for_nothing(
    client: httpx.AsyncClient, tenant: UUID, sessions: Sessions, claim_job: ClaimJob
) -> None:
    with sessions.begin() as session:
        audit = add_audit_rows(session, tenant)
        add_job(
            session,
            SUMMARIZE_AUDIT,
            tenant_id=tenant,
            language_model_id=audit.language_model_id,
            owner_id=audit.id,
        )
    with sessions.begin() as session:
        postpone(session, await claim_job(), PROBLEM, delay_seconds=0)
    lease = await claim_job()
    with sessions.begin() as session:
        take_for_finish(session, lease)
    assert (await read(client, f"/v1/audits/{format_id(Prefix.AUDIT, audit.id)}"))["waiting"] is None
