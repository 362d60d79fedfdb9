"""The audit trail: what is in it, that nothing of it can be changed unseen, and that it stays whole."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg import sql
from sqlalchemy.orm import Session, sessionmaker

from app.contracts.trail import HEAD_PAYLOAD, Checked, check_chain
from app.settings import Settings
from app.signing.dsse import seal
from app.signing.keys import read_signing_keys, rotate_signing_key
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.trail import (
    COMMAND_LINE,
    Action,
    answer_entry,
    chain_entries,
    count_unchained,
    list_entries,
    record,
)
from app.trail.service import read_head
from tests.command_line import invoke
from tests.http_api import client_of, make_key
from tests.live_service import PATIENCE

READER = ("trail:read", "audit:read", "audit:write")
WRITERS = 6
ENTRIES = 40


def write(sessions: sessionmaker[Session], number: int) -> None:
    with sessions.begin() as session:
        facts: dict[str, Any] = {"number": number, "scopes": ["audit:read"], "nothing": None}
        record(
            session,
            tenant_id=uuid4(),
            actor=COMMAND_LINE,
            action=Action.KEY_CREATED,
            subject="key_1",
            facts=facts,
        )


def chain_all(sessions: sessionmaker[Session], at_once: int = 1000) -> None:
    while True:
        with sessions.begin() as session:
            if not chain_entries(session, at_once) and not count_unchained(session):
                return


def checked(sessions: sessionmaker[Session]) -> Checked:
    with sessions.begin() as session:
        return check_chain([answer_entry(row) for row in list_entries(session, after=0, limit=10_000)])


@pytest.fixture
def written(sessions: sessionmaker[Session]) -> sessionmaker[Session]:
    for number in range(5):
        write(sessions, number)
    chain_all(sessions)
    return sessions


@pytest.fixture
def in_database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMAUDIT_DATABASE_URL", database_url)


REFUSED = (
    "UPDATE trail SET actor = 'x'",
    "UPDATE trail SET place = place + 10",
    "UPDATE trail SET facts = '{}' WHERE place IS NULL",
    "UPDATE trail SET facts = '{}', place = 9, sha256 = 'x' WHERE place IS NULL",
    "DELETE FROM trail",
    "TRUNCATE trail",
    "INSERT INTO trail (id, actor, action, facts, place) VALUES (gen_random_uuid(), 'x', 'x', '{}', 99)",
)


@pytest.mark.parametrize("statement", REFUSED)
def test_the_database_refuses_to_change_it(
    written: sessionmaker[Session], database: psycopg.Connection, statement: str
) -> None:
    write(written, 5)
    before = database.execute("SELECT trail::text FROM trail ORDER BY id").fetchall()
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        database.execute(statement)
    assert database.execute("SELECT trail::text FROM trail ORDER BY id").fetchall() == before


TAMPERED = {
    "UPDATE trail SET facts = facts || '{\"number\": 8}' WHERE place = 3": 3,
    "UPDATE trail SET created_at = created_at - interval '1 day' WHERE place = 3": 3,
    "DELETE FROM trail WHERE place = 3": 3,
    "DELETE FROM trail WHERE place = 1": 1,
    "UPDATE trail SET place = CASE place WHEN 2 THEN 3 ELSE 2 END WHERE place IN (2, 3)": 2,
    "UPDATE trail SET place = place + 1 WHERE place >= 3; "
    "INSERT INTO trail SELECT gen_random_uuid(), tenant_id, 'x', action, subject, facts, created_at, 3, "
    "sha256, sha256 FROM trail WHERE place = 2": 3,
}


@pytest.mark.parametrize("statement", TAMPERED)
@pytest.mark.usefixtures("in_database")
def test_whoever_goes_round_the_refusal_is_found(
    written: sessionmaker[Session], database: psycopg.Connection, statement: str
) -> None:
    whole = invoke("trail", "verify", "--json")
    assert (whole.exit_code, json.loads(whole.stdout)["entries"]) == (0, 5)
    database.execute("ALTER TABLE trail DISABLE TRIGGER ALL")
    database.execute("ALTER TABLE trail DROP CONSTRAINT uq_trail_place")
    database.execute(sql.SQL(statement))
    found = invoke("trail", "verify")
    assert found.exit_code == 1
    assert f"broken at place {TAMPERED[statement]}:" in found.output


@pytest.mark.usefixtures("in_database")
def test_a_signed_head_finds_that_the_end_was_cut_off(
    written: sessionmaker[Session], database: psycopg.Connection, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    rotate_signing_key(keys)
    with written.begin() as session:
        head = read_head(session)
    kept = tmp_path / "head.json"
    kept.write_bytes(seal(HEAD_PAYLOAD, head.model_dump_json().encode(), read_signing_keys(keys)))
    environment = {"MEMAUDIT_SIGNING_KEYS": os.fspath(keys)}
    assert invoke("trail", "verify", "--head", str(kept), environment=environment).exit_code == 0
    database.execute("ALTER TABLE trail DISABLE TRIGGER ALL")
    database.execute("DELETE FROM trail WHERE place > 3")
    assert invoke("trail", "verify").exit_code == 0
    found = invoke("trail", "verify", "--head", str(kept), environment=environment)
    assert (found.exit_code, "broken at place 4: cut off" in found.output) == (1, True)
    rotate_signing_key(tmp_path / "others")
    environment = {"MEMAUDIT_SIGNING_KEYS": os.fspath(tmp_path / "others")}
    untrusted = invoke("trail", "verify", "--head", str(kept), environment=environment)
    assert (untrusted.exit_code, "not to be trusted" in untrusted.stderr) == (1, True)


def test_many_who_write_and_chain_at_once_leave_one_whole_chain(settings: Settings) -> None:
    """None waits for another to write; of those who chain one does it at a time."""
    engine = sync_engine(settings.require_database_url(), pool_size=2 * WRITERS)
    sessions = sync_sessions(engine)
    with ThreadPoolExecutor(2 * WRITERS) as threads:
        writing = [threads.submit(write, sessions, number) for number in range(WRITERS * ENTRIES)]
        chaining = [threads.submit(chain_all, sessions, 7) for _ in range(WRITERS)]
        for each in (*writing, *chaining):
            each.result()
    chain_all(sessions)
    found = checked(sessions)
    assert (found.broken, found.entries) == (None, WRITERS * ENTRIES)
    engine.dispose()


def test_a_writer_does_not_wait_for_who_chains(sessions: sessionmaker[Session]) -> None:
    write(sessions, 0)
    with sessions() as slow, sessions() as late:
        record(late, tenant_id=None, actor=COMMAND_LINE, action=Action.KEY_CREATED, subject="key_late")
        assert chain_entries(slow, 1000) == 1
        write(sessions, 1)  # would wait for ever
        with sessions.begin() as other:
            assert chain_entries(other, 1000) == 0
        slow.commit()
        chain_all_but_late = 1
        with sessions.begin() as session:
            assert chain_entries(session, 1000) == chain_all_but_late
        late.commit()
    chain_all(sessions)
    found = checked(sessions)
    assert (found.broken, found.entries) == (None, 3)


KILLED = """
import sys
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.trail import COMMAND_LINE, Action, chain_entries, record
sessions = sync_sessions(sync_engine(sys.argv[1]))
while True:
    with sessions.begin() as session:
        record(session, tenant_id=None, actor=COMMAND_LINE, action=Action.KEY_CREATED, subject="key_1")
    with sessions.begin() as session:
        chain_entries(session, 3)
    print("done", flush=True)
"""


def test_processes_that_are_killed_in_the_middle_leave_it_whole(
    settings: Settings, sessions: sessionmaker[Session]
) -> None:
    command = [sys.executable, "-c", KILLED, settings.require_database_url()]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        for _ in range(15):
            assert process.stdout.readline() == "done\n"
        process.send_signal(signal.SIGKILL)  # the others go on
        process.wait(PATIENCE)
        process.stdout.close()
    chain_all(sessions)
    found = checked(sessions)
    assert found.broken is None
    assert found.entries >= 3 * 15


@pytest.fixture
async def readers(app: FastAPI, settings: Settings) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    keys = {
        "acme": make_key(settings, scopes=READER),
        "other": make_key(settings, tenant="other", scopes=READER),
        "operator": make_key(settings, tenant="operator", scopes=("admin",)),
        "nobody": make_key(settings, scopes=("audit:read", "edit:read", "keys:write")),
    }
    clients = {name: client_of(app, key) for name, key in keys.items()}
    yield clients
    for client in clients.values():
        await client.aclose()


async def entries_of(client: httpx.AsyncClient, **params: str) -> list[dict[str, Any]]:
    entries, cursor = [], {}
    while True:
        page = (await client.get("/v1/trail", params={**params, **cursor})).json()
        entries += page["data"]
        if not page["has_more"]:
            return entries
        cursor = {"cursor": page["next_cursor"]}


async def test_a_tenant_reads_its_own_and_an_operator_all(
    readers: dict[str, httpx.AsyncClient], sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    for name in ("acme", "other", "acme"):
        made = await readers[name].post("/v1/text-sets", json={"name": "texts", "texts": [{"text": "a b c"}]})
        text_set = made.json()["id"]
        assert (await readers[name].get(f"/v1/text-sets/{text_set}/texts")).status_code == 200
        assert (await readers[name].delete(f"/v1/text-sets/{text_set}")).status_code == 200
    chain_all(sessions)
    assert (await readers["nobody"].get("/v1/trail")).status_code == 403
    own = await entries_of(readers["acme"], limit="2")
    assert [each["action"] for each in own] == 2 * ["text_set.created", "text_set.read", "text_set.erased"]
    assert {each["subject"][:4] for each in own} == {"txs_"}
    assert {each["actor"][:4] for each in own} == {"key_"}
    assert own[1]["facts"] == {"from": 0, "to": 1}
    theirs = await entries_of(readers["other"])
    everything = await entries_of(readers["operator"])
    assert len(theirs) == 3
    assert [each["place"] for each in everything] == list(range(1, 10))
    tenant = theirs[0]["tenant"]
    assert await entries_of(readers["operator"], tenant=tenant) == theirs
    assert (await readers["acme"].get("/v1/trail", params={"tenant": tenant})).status_code == 404
    erased = await entries_of(readers["operator"], action="text_set.erased")
    assert len(erased) == 3
    assert "a b c" not in json.dumps(everything)

    exported = await readers["operator"].get("/v1/trail", headers={"Accept": "application/jsonl"})
    assert [json.loads(line) for line in exported.text.splitlines()] == everything
    file = tmp_path / "trail.jsonl"
    file.write_text(exported.text)
    assert invoke("trail", "verify", str(file)).exit_code == 0
    file.write_text(exported.text.replace('"from":0', '"from":1', 1))
    assert "place 2: changed" in invoke("trail", "verify", str(file)).output
    partial = await readers["other"].get("/v1/trail", headers={"Accept": "application/jsonl"})
    file.write_text(partial.text)
    assert invoke("trail", "verify", str(file), "--partial").exit_code == 0


async def test_it_is_chained_by_the_service_itself(readers: dict[str, httpx.AsyncClient]) -> None:
    body = {"name": "texts", "texts": [{"text": "a"}]}
    assert (await readers["acme"].post("/v1/text-sets", json=body)).status_code == 201
    began = time.monotonic()
    while not await entries_of(readers["acme"]):
        assert time.monotonic() - began < PATIENCE


async def test_who_may_do_what_is_in_it(
    readers: dict[str, httpx.AsyncClient], sessions: sessionmaker[Session]
) -> None:
    tenant = (await readers["operator"].post("/v1/tenants", json={"name": "new"})).json()["id"]
    key = await readers["operator"].post(
        f"/v1/tenants/{tenant}/keys", json={"name": "k", "scopes": ["audit:read"]}
    )
    await readers["operator"].patch(f"/v1/tenants/{tenant}", json={"disabled": True})
    await readers["operator"].delete(f"/v1/keys/{key.json()['id']}")
    chain_all(sessions)
    entries = await entries_of(readers["operator"], tenant=tenant)
    assert [(each["action"], each["subject"], each["facts"]) for each in entries] == [
        ("tenant.created", tenant, {}),
        ("key.created", key.json()["id"], {"scopes": ["audit:read"], "expires_at": None}),
        ("tenant.changed", tenant, {"changed": ["disabled"], "disabled": True}),
        ("key.revoked", key.json()["id"], {}),
    ]
    assert key.json()["key"] not in json.dumps(entries)
