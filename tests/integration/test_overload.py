"""What a request costs the database, and what becomes of it when there is no room for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as ConnectionTimeout
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import TimeLimits, async_engine
from app.store.core.unit_of_work import Store
from app.store.language_models import LanguageModel
from app.store.text_sets import TextSet
from app.store.throughput import Machine, announce
from tests.http_api import client_of, make_key, running_app, statements_of
from tests.integration.rows import add_audit_rows


@pytest.fixture
def request_body(sessions: sessionmaker[Session], settings: Settings) -> dict[str, str]:
    """What is asked for: an audit of texts that are there under a language model that is ready."""
    make_key(settings)
    with sessions.begin() as session:
        tenant_id = session.scalar(text("SELECT id FROM tenants WHERE name = 'acme'"))
        audit = add_audit_rows(session, tenant_id)
        model = session.get_one(LanguageModel, audit.language_model_id)
        model.parameter_count, model.vocabulary_size = 1000, 100
        return {
            "model": format_id(Prefix.LANGUAGE_MODEL, model.id),
            "text_set": format_id(Prefix.TEXT_SET, audit.text_set_id),
        }


async def post(client: httpx.AsyncClient, body: dict[str, str], key: str = "key") -> httpx.Response:
    return await client.post("/v1/audits", json=body, headers={"Idempotency-Key": key})


def of_work(statements: list[str]) -> list[str]:
    """Those that are not about who is asking: the first word, and the table if it writes."""
    kept, asks = [], False
    for each in statements:
        asks = "api_keys" in each or (asks and each == "COMMIT")
        if not asks:
            words = each.split()
            kept.append(" ".join(words[:3]) if words[0] == "INSERT" else words[0])
    return kept


async def test_an_audit_is_requested_and_read_with_few_statements(
    app: FastAPI, client: httpx.AsyncClient, request_body: dict[str, str], sessions: sessionmaker[Session]
) -> None:
    """Each is a journey to the database and a good part of what a request costs here."""
    with sessions.begin() as session:
        announce(session, Machine(name="class", device="GPU", threads=1, memory_bytes=2**40), "gpu")
    assert (await client.get("/v1/audits")).status_code == 200  # a first connection asks what it speaks with
    with statements_of(app) as said:
        accepted = await post(client, request_body)
    assert accepted.status_code == 202
    first = [
        "SELECT",  # the key is taken and its answer looked for
        "SELECT",  # the text set and the language model
        "INSERT INTO audits",
        "INSERT INTO jobs",
        "SELECT",  # which workers there are
        "INSERT INTO trail",
        "INSERT INTO idempotency_keys",
        "COMMIT",
    ]
    assert of_work(said) == first
    with statements_of(app) as said:
        await post(client, request_body, "another")
    assert of_work(said) == [*first[:4], *first[5:]]
    with statements_of(app) as said:
        read = await client.get(f"/v1/audits/{accepted.json()['id']}")
    assert read.json() == accepted.json()
    assert of_work(said) == ["SELECT"]
    with statements_of(app) as said:
        again = await post(client, request_body)
    assert again.json() == accepted.json()
    assert of_work(said) == ["SELECT", "COMMIT"]


async def test_an_audit_that_is_not_alone_is_read_as_a_whole(
    app: FastAPI, client: httpx.AsyncClient, request_body: dict[str, str], sessions: sessionmaker[Session]
) -> None:
    with sessions.begin() as session:
        controls = TextSet(**{**_columns(session), "name": "controls", "hmac_sha256": "c" * 64})
        session.add(controls)
        session.flush()
        control_id = format_id(Prefix.TEXT_SET, controls.id)
    accepted = await post(client, {**request_body, "control_text_set": control_id})
    assert accepted.status_code == 202, accepted.text
    companion = accepted.json()["companions"]["control"]
    assert (await client.get(f"/v1/audits/{accepted.json()['id']}")).json() == accepted.json()
    read = (await client.get(f"/v1/audits/{companion}")).json()
    assert read["companion_of"] == [accepted.json()["id"]]


def _columns(session: Session) -> dict[str, Any]:
    """Of a text set like the one that is there."""
    row = session.query(TextSet).one()
    names = ("tenant_id", "text_count", "byte_count", "group_counts", "duplicate_counts", "status")
    return {name: getattr(row, name) for name in names}


@pytest.fixture
async def narrow(settings: Settings) -> AsyncIterator[FastAPI]:
    """The service with one connection and one more, one request that waits, and little patience."""
    few = {"database_pool_size": 1, "database_wait_seconds": 1.0, "database_statement_seconds": 4.0}
    async with running_app(settings.model_copy(update={**few, "waiting_requests": 0})) as app:
        yield app


def is_refused(response: httpx.Response, slug: str) -> bool:
    """Whether a request was refused, and told when to come again."""
    problem = response.json()["type"].rpartition("/")[2]
    return response.status_code == 503 and int(response.headers["retry-after"]) >= 1 and problem == slug


async def test_the_surplus_is_refused_before_anything_is_looked_up(
    narrow: FastAPI, settings: Settings, request_body: dict[str, str], database: psycopg.Connection
) -> None:
    async with client_of(narrow, make_key(settings)) as client:
        with database.transaction():
            database.execute("LOCK TABLE api_keys")  # the first request waits for it
            first = asyncio.create_task(client.get("/v1/audits"))
            await _somebody_waits(database)
            with statements_of(narrow) as said:
                # Neither a key nor a body is looked at.
                assert is_refused(await client.get("/v1/audits"), "overloaded")
                assert is_refused(await client.post("/v1/audits", content=b"{"), "overloaded")
                assert (await client.get("/healthz")).status_code == 200
                assert (await client.get("/readyz")).status_code == 200
            assert said == ["SELECT 1", "COMMIT"]  # of the readiness
            # Those that last have a lane of their own, in which this one waits for the same lock.
            assert not is_refused(await client.get("/v1/audits/aud_1", params={"wait": 1}), "overloaded")
            assert is_refused(await first, "service-unavailable")  # its statement took too long
        assert (await post(client, request_body)).status_code == 202
        metrics = (await client.get("/metrics")).text
    assert 'memaudit_refused_total{limit="busy_short"} 2.0' in metrics


async def test_no_request_waits_long_for_a_connection_or_a_lock(
    narrow: FastAPI, settings: Settings, request_body: dict[str, str], database: psycopg.Connection
) -> None:
    async with client_of(narrow, make_key(settings)) as client:
        async with AsyncExitStack() as held:
            await _take_all_connections(narrow.state.store, held)
            assert is_refused(await client.get("/v1/audits"), "service-unavailable")
            assert (await client.get("/healthz")).status_code == 200
        with database.transaction():
            database.execute("SELECT 1 FROM text_sets FOR UPDATE")
            refused = await post(client, request_body)
            assert is_refused(refused, "service-unavailable")
            assert "busy" in refused.json()["detail"]
        # Nothing was done, and nothing needs to be started again.
        assert (await post(client, request_body)).status_code == 202
    assert database.execute("SELECT count(*) FROM audits").fetchone() == (2,)


async def test_a_database_that_stops_keeps_nobody_waiting_and_is_used_again_when_it_goes_on(
    settings: Settings, database: psycopg.Connection
) -> None:
    limits = TimeLimits(connection_seconds=0.1, statement_seconds=0.1, grace_seconds=0.1)
    engine = async_engine(settings.require_database_url(), pool_size=1, limits=limits)
    store = Store(engine, limits)
    process_id = await store.look(_process_id)
    backend = psutil.Process(process_id)
    backend.suspend()
    began = time.monotonic()
    try:
        with pytest.raises(OperationalError) as caught:
            await store.run(_process_id)
        assert caught.value.connection_invalidated
        assert time.monotonic() - began < 5  # 0.3 by the limits; a driver left to itself takes ten
    finally:
        backend.resume()
    assert await store.run(_process_id) != process_id
    await engine.dispose()


def _process_id(session: Session) -> int:
    return int(session.scalar(text("SELECT pg_backend_pid()")))


async def test_a_connection_that_was_closed_meanwhile_is_not_used(
    settings: Settings, database: psycopg.Connection
) -> None:
    engine = async_engine(settings.require_database_url(), pool_size=1)
    store = Store(engine)
    process_id = await store.run(_process_id)
    database.execute("SELECT pg_terminate_backend(%s, 10000)", [process_id])
    assert await store.run(_process_id) != process_id
    await engine.dispose()


async def _take_all_connections(store: Store, held: AsyncExitStack) -> None:
    """Both of them, however often those who work in the background come first."""
    for _ in range(2):
        taken = False
        while not taken:
            with suppress(ConnectionTimeout):
                await held.enter_async_context(store.transaction())
                taken = True


async def _somebody_waits(database: psycopg.Connection) -> None:
    """Until a statement waits for a lock."""
    statement = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with asyncio.timeout(10):
        while database.execute(statement).fetchone() == (0,):  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.001)


async def test_a_large_body_is_read_in_its_turn_whatever_its_key_is(app: FastAPI) -> None:
    filling = b'"x": [' + b",".join([b"{}"] * 50_000) + b"]"
    async with client_of(app, "mak_invented") as client:

        async def send(body: bytes) -> int:
            headers = {"Content-Type": "application/json", "Idempotency-Key": "key"}
            return (await client.post("/v1/audits", content=body, headers=headers)).status_code

        whole, twice = b"{" + filling + b"}", b"{" + filling + b", " + filling + b"}"
        assert await asyncio.gather(*(send(body) for body in (whole, twice, whole))) == [401, 400, 401]
    assert app.state.json_turns.statistics().borrowed_tokens == 0
