"""Requests for work on a real Postgres: audits made once for a key, and texts scored while one waits."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.jobs.owners import AUDIT
from app.store.jobs.sweeping import sweep_leases
from app.store.lifecycle import begin_operation, end, succeed_audit
from app.store.operations import OperationStatus
from app.store.scores import copy_scores
from app.store.tenants import Tenant
from tests.http_api import client_of, make_key
from tests.integration.rows import add_ready_model, score_row

TEXTS = [{"id": "b", "text": "one"}, {"text": "two", "group": "g", "duplicates": 4}, {"id": "a", "text": "3"}]
NL = [-2.5, None, -0.1]


@pytest.fixture
def sessions(settings: Settings) -> Iterator[sessionmaker[Session]]:
    """The store from another connection, as a worker has it."""
    engine = sync_engine(settings.require_database_url())
    yield sync_sessions(engine)
    engine.dispose()


@pytest.fixture
def model(client: httpx.AsyncClient, sessions: sessionmaker[Session]) -> str:
    """The id of a ready language model of the client's tenant."""
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id)).one()
        return format_id(Prefix.LANGUAGE_MODEL, add_ready_model(session, tenant_id).id)


@pytest.fixture
async def request_body(client: httpx.AsyncClient, model: str) -> dict[str, Any]:
    text_set = (await client.post("/v1/text-sets", json={"name": "set", "texts": TEXTS})).json()
    return {"model": model, "text_set": text_set["id"], "metadata": {"run": 1}}


async def post(client: httpx.AsyncClient, body: dict[str, Any], key: str) -> httpx.Response:
    return await client.post("/v1/audits", json=body, headers={"Idempotency-Key": key})


def audit_ids(database: psycopg.Connection) -> list[UUID]:
    return [row[0] for row in database.execute("SELECT id FROM audits ORDER BY id")]


def public_ids(database: psycopg.Connection) -> list[str]:
    return [format_id(Prefix.AUDIT, identifier) for identifier in audit_ids(database)]


async def appeared(database: psycopg.Connection) -> UUID:
    """The only audit, once it has been written."""
    async with asyncio.timeout(10):
        while True:
            if ids := audit_ids(database):
                (identifier,) = ids
                return identifier
            await asyncio.sleep(0.02)


def write_scores(sessions: sessionmaker[Session], audit_id: UUID) -> None:
    """What a worker writes of TEXTS, last text first."""
    rows = [
        score_row(
            audit_id,
            ordinal,
            nl,
            text_id=text.get("id", str(ordinal)),
            group=text.get("group"),
            duplicates=text.get("duplicates"),
        )
        for ordinal, (text, nl) in enumerate(zip(TEXTS, NL, strict=True))
    ]
    with sessions.begin() as session:
        begin_operation(session, Audit, audit_id, "d" * 64)
        copy_scores(session, reversed(rows))
        succeed_audit(session, audit_id, {})


async def test_the_same_key_gives_the_first_answer(
    client: httpx.AsyncClient,
    request_body: dict[str, Any],
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
) -> None:
    first = await post(client, request_body, "k")
    assert first.status_code == 202, first.text
    with sessions.begin() as session:
        begin_operation(session, Audit, *audit_ids(database), "f" * 64)
    again = await post(client, request_body, "k")
    assert (again.status_code, again.json()) == (202, first.json())
    location = f"/v1/audits/{first.json()['id']}"
    assert again.headers["location"] == first.headers["location"] == location
    assert public_ids(database) == [first.json()["id"]]
    assert (await client.get(location)).json()["status"] == "running"


async def test_a_key_belongs_to_one_body_and_tenant(
    app: FastAPI,
    client: httpx.AsyncClient,
    settings: Settings,
    request_body: dict[str, Any],
    database: psycopg.Connection,
) -> None:
    first = (await post(client, request_body, "k")).json()
    for change in ({"metadata": {"run": 2}}, {"metrics": ["nl", "p_z"]}, {"options": {"top_k": 7}}):
        response = await post(client, request_body | change, "k")
        assert response.status_code == 422
        assert response.json()["type"].endswith("/idempotency-mismatch")
    assert public_ids(database) == [first["id"]]
    async with client_of(app, make_key(settings, tenant="other")) as stranger:
        assert (await post(stranger, request_body, "k")).status_code == 404
    second = await post(client, request_body, "another")
    assert public_ids(database) == [first["id"], second.json()["id"]]


async def test_a_key_used_by_many_at_once_makes_one_audit(
    client: httpx.AsyncClient, request_body: dict[str, Any], database: psycopg.Connection
) -> None:
    rounds = 3
    for key in map(str, range(rounds)):
        responses = await asyncio.gather(*(post(client, request_body, key) for _ in range(8)))
        accepted = [response.json() for response in responses if response.status_code == 202]
        assert all(answer == accepted[0] for answer in accepted)
        refused = [response for response in responses if response.status_code != 202]
        assert all(response.status_code == 409 for response in refused)
        assert all(response.json()["type"].endswith("/idempotency-in-flight") for response in refused)
        assert public_ids(database)[-1] == accepted[0]["id"]
    assert len(audit_ids(database)) == rounds


async def test_an_audit_is_cancelled_once(
    client: httpx.AsyncClient,
    request_body: dict[str, Any],
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
) -> None:
    path = f"/v1/audits/{(await post(client, request_body, 'k')).json()['id']}"
    response = await client.post(f"{path}/cancel")
    assert (response.status_code, response.json()["status"]) == (202, "cancelled")
    assert response.json()["finished_at"] is not None
    assert (await client.post(f"{path}/cancel")).status_code == 409
    assert (await client.get(path)).json() == response.json()
    # The service may have been ringing for the job just then; the next sweep gets it.
    async with asyncio.timeout(10):
        while database.execute("SELECT state FROM jobs").fetchall() != [("cancelled",)]:
            with sessions.begin() as session:
                sweep_leases(session, max_attempts=3)
            await asyncio.sleep(0.05)


async def test_without_a_worker_the_audit_is_named(
    client: httpx.AsyncClient, model: str, database: psycopg.Connection
) -> None:
    response = await client.post("/v1/score", json={"model": model, "texts": TEXTS, "timeout": 0})
    assert response.status_code == 202, response.text
    audit = response.json()
    assert public_ids(database) == [audit["id"]]
    assert response.headers["location"] == f"/v1/audits/{audit['id']}"
    assert response.headers["retry-after"] == "1"
    assert (audit["status"], audit["progress"]["total"]) == ("queued", len(TEXTS))
    assert (await client.get(response.headers["location"])).json() == audit
    stored = (await client.get(f"/v1/text-sets/{audit['text_set']}/texts")).json()["data"]
    assert [text["text"] for text in stored] == [text["text"] for text in TEXTS]


async def test_scores_are_answered_once_they_are_written(
    client: httpx.AsyncClient, model: str, sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    """The oracle is what was written: the ids and facts of TEXTS, and NL, by their place."""
    body = {"model": model, "texts": TEXTS, "timeout": 30}
    headers = {"Idempotency-Key": "k"}
    scoring = asyncio.create_task(client.post("/v1/score", json=body, headers=headers))
    identifier = await appeared(database)
    await asyncio.sleep(0.3)
    assert not scoring.done()
    write_scores(sessions, identifier)
    response = await asyncio.wait_for(scoring, timeout=5)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["object"], parse_id(Prefix.AUDIT, answer["audit"])) == ("score_list", identifier)
    rows = [(row["ordinal"], row["text_id"], row["nl"], row["error"]) for row in answer["data"]]
    assert rows == [(0, "b", -2.5, None), (1, "1", None, "no_tokens"), (2, "a", -0.1, None)]
    facts = [(row["group"], row["duplicates"]) for row in answer["data"]]
    assert facts == [(None, None), ("g", 4), (None, None)]
    listed = (await client.get(f"/v1/audits/{answer['audit']}/scores")).json()
    assert listed["data"] == answer["data"]
    again = await client.post("/v1/score", json=body, headers=headers)
    assert (again.status_code, again.json()) == (200, answer)
    assert audit_ids(database) == [identifier]


async def test_a_failure_is_answered_as_soon_as_it_happens(
    client: httpx.AsyncClient, model: str, sessions: sessionmaker[Session], database: psycopg.Connection
) -> None:
    body = {"model": model, "texts": TEXTS, "timeout": 30}
    scoring = asyncio.create_task(client.post("/v1/score", json=body))
    identifier = await appeared(database)
    error = {"type": "t", "title": "Failed", "status": 500, "detail": "It did not work."}
    with sessions.begin() as session:
        end(session, AUDIT, identifier, OperationStatus.FAILED, error=error)
    response = await asyncio.wait_for(scoring, timeout=5)
    assert (response.status_code, response.json()["status"]) == (202, "failed")
    assert response.json()["error"]["detail"] == "It did not work."
