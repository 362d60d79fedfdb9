"""Waiting costs nothing while nothing happens: news comes by notification, and readings are shared."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.audits import service
from app.embedded.postgres_server import PostgresServer
from app.http import changes
from app.settings import Settings
from app.store.audits import Audit
from app.store.changes import CHANNEL
from app.store.core.identifiers import Prefix, format_id
from app.store.edits import Edit
from app.store.enqueueing import enqueue_edit
from app.store.jobs.claiming import claim
from app.store.jobs.kinds import DERIVE_SHARD, SCORE_SHARD, JobKind
from app.store.jobs.leases import Lease, heartbeat
from app.store.jobs.queue import add_job
from app.store.language_models import LanguageModel
from app.store.lifecycle import cancel_operation
from app.store.operations import OperationStatus
from app.store.tenants import Tenant
from tests.http_api import client_of, make_key, running_app
from tests.integration.rows import add_audit_rows, add_edit, add_ready_model, add_shard, add_study

LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN memaudit_changes' AND datname = %s"


@pytest.fixture
def never_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is seen in time was heard of."""
    monkeypatch.setattr(changes, "POLL_SECONDS", 60.0)


def add(sessions: sessionmaker[Session], table: type[Audit] | type[Edit] | type[LanguageModel]) -> str:
    """Something that has not ended; its path."""
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()
        if table is Audit:
            return f"/v1/audits/{format_id(Prefix.AUDIT, add_audit_rows(session, tenant_id).id)}"
        if table is Edit:
            return f"/v1/edits/{format_id(Prefix.EDIT, add_edit(session, tenant_id).id)}"
        model = add_ready_model(session, tenant_id)
        model.status = "queued"
        return f"/v1/models/{format_id(Prefix.LANGUAGE_MODEL, model.id)}"


@asynccontextmanager
async def waiting(client: httpx.AsyncClient, path: str) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """A long poll that has begun to wait."""
    task = asyncio.create_task(client.get(path, params={"wait": 60}))
    await asyncio.sleep(0.5)
    assert not task.done()
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def reader(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, make_key(settings, scopes=("audit:read", "edit:read"))) as client:
        yield client


@pytest.mark.usefixtures("never_polled")
@pytest.mark.parametrize(
    ("table", "ended"), [(Audit, "succeeded"), (Edit, "cancelled"), (LanguageModel, "ready")]
)
async def test_a_commit_elsewhere_wakes_who_waits(
    reader: httpx.AsyncClient,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    table: type[Audit] | type[Edit] | type[LanguageModel],
    ended: str,
) -> None:
    path = add(sessions, table)
    async with waiting(reader, path) as answer:
        began = time.monotonic()
        database.execute(f"UPDATE {table.__tablename__} SET status = %s", (ended,))
        response = await asyncio.wait_for(answer, 5)
        assert time.monotonic() - began < 1
    assert response.json()["status"] == ended


@pytest.mark.usefixtures("never_polled")
async def test_what_heartbeats_report_wakes_who_follows(
    app: FastAPI, reader: httpx.AsyncClient, sessions: sessionmaker[Session]
) -> None:
    path = add(sessions, Edit)
    with sessions.begin() as session:
        enqueue_edit(session, session.scalars(select(Edit)).one())
    with sessions.begin() as session:
        lease = claim(session, queue="gpu", worker="w", lease_seconds=60, loaded=[])
    assert lease is not None
    assert lease.edit_id is not None

    async def read() -> str:
        return str((await reader.get(path)).json()["progress"]["stage"])

    waits: changes.Changes = app.state.changes
    with waits.watch(changes.Resource(lease.tenant_id, lease.edit_id), read) as watch:
        reading = await watch.fresh()
        for stage in ("loading", "writing"):
            with sessions.begin() as session:
                assert heartbeat(session, lease, lease_seconds=60, progress=1, stage=stage)
            async with asyncio.timeout(2):
                reading = await watch.after(reading.number)
            assert reading.value == stage


@pytest.mark.usefixtures("never_polled")
@pytest.mark.parametrize("kind", [SCORE_SHARD, DERIVE_SHARD])
async def test_what_the_audits_of_a_study_report_wakes_who_follows_it(
    app: FastAPI, reader: httpx.AsyncClient, sessions: sessionmaker[Session], kind: JobKind
) -> None:
    with sessions.begin() as session:
        audit = add_audit_rows(session, session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one())
        audit.status = OperationStatus.RUNNING
        study = add_study(session, audit, OperationStatus.RUNNING)
        resource = changes.Resource(study.tenant_id, study.id)
        path = f"/v1/studies/{format_id(Prefix.STUDY, study.id)}"
        add_job(
            session,
            kind,
            tenant_id=audit.tenant_id,
            language_model_id=audit.language_model_id,
            owner_id=audit.id,
            payload={"start": 0, "stop": 10},
        )
    with sessions.begin() as session:
        lease = claim(session, queue=kind.queue, worker="w", lease_seconds=60, loaded=[])
    assert lease is not None

    async def read() -> int:
        return int((await reader.get(path)).json()["progress"]["done"])

    waits: changes.Changes = app.state.changes
    with waits.watch(resource, read) as watch:
        reading = await watch.fresh()
        for done in (3, 7):
            with sessions.begin() as session:
                assert heartbeat(session, lease, lease_seconds=60, progress=done)
            async with asyncio.timeout(2):
                reading = await watch.after(reading.number)
            assert reading.value == done


def watches_of(app: FastAPI) -> list[changes.Watch]:
    return [watch for by_tenant in app.state.changes._watches.values() for watch in by_tenant.values()]


def is_at_rest(watch: changes.Watch) -> bool:
    """Whether what is waited for has been read, and is not being read."""
    read = watch._latest is not None and watch._latest.number == watch._begun
    return read and not watch._wanted.is_set()


def listeners_of(database: psycopg.Connection) -> list[int]:
    return [pid for (pid,) in database.execute(LISTENERS, (database.info.dbname,)).fetchall()]


async def test_a_thousand_who_wait_cost_few_transactions(
    app: FastAPI,
    client: httpx.AsyncClient,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    postgres_server: PostgresServer,
) -> None:
    """Half of them wait for one audit, the others for one each."""
    paths = [add(sessions, Audit) for _ in range(500)]
    name = database.info.dbname
    with psycopg.connect(postgres_server.url, autocommit=True) as elsewhere:

        def transactions() -> int:
            row = elsewhere.execute(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = %s", (name,)
            ).fetchone()
            assert row is not None
            return int(row[0])

        answers = [
            asyncio.create_task(client.get(path, params={"wait": 60})) for path in paths + [paths[0]] * 500
        ]
        # The requests themselves cost a few each; how long they take is the machine's business.
        async with asyncio.timeout(60):
            while sum(watch.waiting for watch in watches_of(app) if watch._latest) < len(answers):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)
        # A connection that has nothing more to do tells what it did up to ten seconds later.
        await asyncio.sleep(11)
        before = transactions()
        await asyncio.sleep(10)
        a_second = (transactions() - before) / 10
        print(f"{a_second} transactions a second")  # noqa: T201 - a figure for whoever runs it with -s
        assert a_second < 50
        assert not any(answer.done() for answer in answers)
        before = transactions()
        database.execute("UPDATE audits SET status = 'cancelled'")
        async with asyncio.timeout(20):
            responses = await asyncio.gather(*answers)
        assert {response.json()["status"] for response in responses} == {"cancelled"}
        await asyncio.sleep(2)
        # Each reading costs two, the pool's own question included: 1,000, where each for itself costs 2,000.
        assert transactions() - before < 1400


@pytest.mark.usefixtures("never_polled")
async def test_readings_are_shared(
    app: FastAPI,
    client: httpx.AsyncClient,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = add(sessions, Audit)
    read, readings = service.read_audit, []
    monkeypatch.setattr(service, "read_audit", lambda *args: (readings.append(1), read(*args))[1])
    answers = [asyncio.create_task(client.get(path, params={"wait": 60})) for _ in range(200)]
    async with asyncio.timeout(60):
        while sum(watch.waiting for watch in watches_of(app) if is_at_rest(watch)) < len(answers):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.1)
    begun = len(readings)
    assert begun < 100
    database.execute("UPDATE audits SET texts_done = 1")
    await asyncio.sleep(0.5)
    database.execute("UPDATE audits SET status = 'failed'")
    async with asyncio.timeout(10):
        responses = await asyncio.gather(*answers)
    assert {response.json()["status"] for response in responses} == {"failed"}
    assert len(readings) - begun == 2


@pytest.mark.usefixtures("never_polled")
async def test_a_listener_that_is_cut_off_listens_again(
    client: httpx.AsyncClient, sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    """What was committed while nobody listened is not missed."""
    path, later = add(sessions, Audit), add(sessions, Audit)
    async with waiting(client, path) as answer, waiting(client, later) as last:
        (first,) = listeners_of(database)
        database.execute("SELECT pg_terminate_backend(%s, 5000)", (first,))
        database.execute(
            "UPDATE audits SET status = 'failed' WHERE id = (SELECT id FROM audits ORDER BY id LIMIT 1)"
        )
        assert (await asyncio.wait_for(answer, 5)).json()["status"] == "failed"
        (second,) = listeners_of(database)
        assert second != first
        database.execute("UPDATE audits SET status = 'cancelled' WHERE status = 'queued'")
        assert (await asyncio.wait_for(last, 5)).json()["status"] == "cancelled"


@pytest.mark.usefixtures("never_polled")
async def test_a_database_that_was_away_is_listened_to_again(
    app: FastAPI,
    client: httpx.AsyncClient,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    postgres_server: PostgresServer,
    database_url: str,
) -> None:
    async with waiting(client, add(sessions, Audit)) as answer:
        # A reading that is under way would fail, and that would be the answer.
        async with asyncio.timeout(30):
            while not listeners_of(database) or not all(map(is_at_rest, watches_of(app))):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.1)
        await asyncio.to_thread(postgres_server.kill)
        await asyncio.sleep(1)
        await asyncio.to_thread(postgres_server.start)
        with psycopg.connect(database_url, autocommit=True) as again:
            again.execute("UPDATE audits SET status = 'failed'")
        response = await asyncio.wait_for(answer, 15)
    assert (response.status_code, response.json()["status"]) == (200, "failed")


async def test_who_hangs_up_is_not_read_for(
    app: FastAPI, remote: httpx.AsyncClient, sessions: sessionmaker[Session]
) -> None:
    others = asyncio.all_tasks()
    path = add(sessions, Audit)
    async with remote.stream("GET", f"{path}/events") as response:
        assert await anext(response.aiter_lines())
        assert len(app.state.changes._watches) == 1
    async with asyncio.timeout(5):
        while app.state.changes._watches:  # noqa: ASYNC110 - nobody tells when the server has noticed
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    assert asyncio.all_tasks() <= others


async def test_a_lost_notification_is_made_good_by_a_slow_poll(
    client: httpx.AsyncClient,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changes, "POLL_SECONDS", 1.0)
    database.execute("ALTER TABLE audits DISABLE TRIGGER notify_change")
    async with waiting(client, add(sessions, Audit)) as answer:
        database.execute("UPDATE audits SET status = 'failed'")
        assert (await asyncio.wait_for(answer, 5)).json()["status"] == "failed"


async def test_news_is_sent_once_a_transaction_and_not_for_each_heartbeat(
    client: httpx.AsyncClient, sessions: sessionmaker[Session], settings: Settings
) -> None:
    add(sessions, Audit)
    with sessions.begin() as session:
        audit = session.scalars(select(Audit)).one()
        for _ in range(50):
            add_shard(session, audit)

    def take(session: Session) -> None:
        lease = claim(session, queue="gpu", worker="w", lease_seconds=60, loaded=[])
        assert lease is not None
        leases.append(lease)

    def beat(session: Session) -> None:
        assert heartbeat(session, leases[0], lease_seconds=60, progress=4)

    def cancel(session: Session) -> None:
        cancel_operation(session, Audit, audit.tenant_id, audit.id)

    leases: list[Lease] = []
    steps: list[tuple[Callable[[Session], None], int]] = [(take, 1), (beat, 1), (beat, 0), (cancel, 1)]
    with psycopg.connect(settings.require_database_url(), autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        for step, expected in steps:
            with sessions.begin() as session:
                step(session)
            heard = [news.payload for news in connection.notifies(timeout=0.5)]
            assert heard == [str(audit.id)] * expected


async def test_a_process_listens_once_and_stops_with_its_app(
    settings: Settings, sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    make_key(settings)
    paths = [add(sessions, Audit) for _ in range(3)]
    others = asyncio.all_tasks()

    async with running_app(settings) as app, client_of(app, make_key(settings)) as client:
        answers = [asyncio.create_task(client.get(path, params={"wait": 1})) for path in paths]
        await asyncio.sleep(0.5)
        assert len(listeners_of(database)) == 1
        await asyncio.gather(*answers)
    assert asyncio.all_tasks() == others
    await asyncio.sleep(0.2)
    assert listeners_of(database) == []
