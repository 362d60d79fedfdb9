"""Texts at rest: nothing that was submitted is stored in clear; what is stored opens in its place only."""

import asyncio
import base64
import json
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.cli.master_keys import _rewrap
from app.embedded.binaries import postgres_binaries
from app.embedded.postgres_server import PostgresServer
from app.errors import KeyUnavailable, NotFound, SealBroken
from app.http.principals import Principals
from app.intake.formats import Row
from app.sealing.keyring import Keyring, open_secret, seal_secret
from app.sealing.master_keys import make_master_key
from app.settings import Settings
from app.store.core.identifiers import Prefix, parse_id
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.data_keys import keyed_fingerprint, require_keys, with_keyring
from app.store.jobs.job import Job, JobState
from app.store.rewrapping import master_keys_needed, rewrap_text_set_keys
from app.store.texts import iterate_text_batches, read_texts
from app.store.token_evidence import read_evidence
from app.text_sets.service import store_texts
from tests.http_api import client_of, make_key, running_app
from tests.own_worker import run_next
from tests.tiny_models import english_sentences, save_tiny_model
from workers.running.runtime import Runtime

CANARY = "Zyzzyva canary walks at dusk"
SENTENCES = [f"{CANARY} {number}. {text[:80]}" for number, text in enumerate(english_sentences()[:8])]
TEXTS: list[dict[str, Any]] = [
    {"text": SENTENCES[0], "choices": [f"{CANARY} a", f"{CANARY} b"], "answer": 1},
    {"prefix": SENTENCES[1][:30], "suffix": SENTENCES[1][30:], "metadata": {"note": CANARY}},
    *({"text": text} for text in SENTENCES[2:]),
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path, checkpoint: Path) -> Settings:
    """With master keys in a directory of their own."""
    make_master_key(tmp_path / "keys")
    return Settings(
        database_url=database_url,
        broker_url=broker_url,
        home=tmp_path / "home",
        model_roots=[checkpoint.parent],
        lease_seconds=60,
        master_key=None,
        master_keys=tmp_path / "keys",
    )


@pytest.fixture
def keyring(settings: Settings) -> Keyring:
    return Keyring(settings)


@pytest.fixture
def sessions(settings: Settings, keyring: Keyring) -> Iterator[sessionmaker[Session]]:
    engine = sync_engine(settings.require_database_url())
    yield sync_sessions(engine, with_keyring(keyring))
    engine.dispose()


@pytest.fixture
async def client(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    scopes = ("audit:read", "audit:write", "edit:read", "edit:write")
    async with client_of(app, make_key(settings, scopes=scopes)) as client:
        yield client


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
    assert answer.is_success, answer.text
    return dict(answer.json())


async def upload(client: httpx.AsyncClient, texts: list[dict[str, Any]] = TEXTS) -> UUID:
    made = await client.post("/v1/text-sets", json={"name": "set", "texts": texts})
    assert made.status_code == 201, made.text
    identifier = parse_id(Prefix.TEXT_SET, made.json()["id"])
    assert identifier is not None
    return identifier


def public(text_set_id: UUID) -> str:
    return f"txs_{text_set_id.hex}"


def in_any_form(canary: str) -> dict[str, bytes]:
    """A text as files may hold it."""
    raw = canary.encode()
    return {
        "as it is": raw,
        "hexadecimal": raw.hex().encode(),
        "UTF-16": canary.encode("utf-16-le"),
        # Whatever stands before it: of three alignments one is there.
        **{f"base64 {shift}": base64.b64encode(raw[shift:])[:-4] for shift in range(3)},
    }


async def test_no_table_no_log_of_writes_and_no_file_holds_a_submitted_text(
    app: FastAPI,
    client: httpx.AsyncClient,
    settings: Settings,
    runtime: Runtime,
    postgres_server: PostgresServer,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Texts in, scored, derived, edited with: then every byte that Postgres has of it is looked through."""
    spools = keep_temporary_files(monkeypatch, tmp_path)
    text_set = public(await upload(client))
    streamed = await client.post(
        "/v1/text-sets?name=stream",
        content="\n".join(json.dumps({"text": text}) for text in SENTENCES),
        headers={"content-type": "application/jsonl"},
    )
    assert streamed.status_code == 201
    model = await post(client, "/v1/models", {"source": {"type": "path", "path": str(checkpoint)}})
    await asyncio.to_thread(run_next, runtime)
    split = {"prefix_tokens": 8, "suffix_tokens": 6}
    audit = {"model": model["id"], "text_set": text_set, "options": split | {"token_evidence": True}}
    first = await post(client, "/v1/audits", audit | {"metrics": ["nl", "extraction"]})
    score = {"model": model["id"], "texts": [{"text": f"{CANARY} on its own"}]}
    scored = await post(client, "/v1/score", score | {"timeout": 0})
    edit = {
        "model": model["id"],
        "method": "svd",
        "name": "edited",
        "layers": [0],
        "rank_ratio": {"gate": 0.9, "up": 0.9, "down": 0.9},
        "evaluation": {"memorized_text_set": text_set, "clean_text_set": text_set, **split},
    }
    edited = await post(client, "/v1/edits", edit)
    await run_all(runtime)
    for kind, made in (("audits", first), ("audits", scored), ("edits", edited)):
        ended = (await client.get(f"/v1/{kind}/{made['id']}")).json()
        assert ended["status"] == "succeeded", ended["error"]
    tokens = (await client.get(f"/v1/audits/{first['id']}/scores/2/tokens")).json()["tokens"]
    assert "".join(token["text"] for token in tokens) == SENTENCES[2]

    wanted = in_any_form(CANARY)
    ids = [token["token_id"] for token in tokens]
    packed = struct.pack(f"<{len(ids)}i", *ids)
    wanted |= {"token ids": packed, "token ids in hexadecimal": packed.hex().encode()}
    database = settings.require_database_url()
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    files = [path for path in postgres_server._data.rglob("*") if path.is_file()]
    kept = list(spools.iterdir())
    assert any("pg_wal" in str(path) for path in files)
    assert len(kept) == 2
    places = {
        "the dump": await asyncio.to_thread(dumped, database),
        "the answers": await stored_answers(database),
    }
    # One file at a time: they hold what all tests of this process have written.
    everything = chain(places.items(), contents(files), ((str(path), path.read_bytes()) for path in kept))
    found = [(form, name) for name, content in everything for form, x in wanted.items() if x in content]
    assert not found


def contents(files: list[Path]) -> Iterator[tuple[str, bytes]]:
    """What Postgres still has of its files: while it runs it removes some, as caches of its catalogs."""
    for path in files:
        with suppress(FileNotFoundError):
            yield str(path), path.read_bytes()


def dumped(database_url: str) -> bytes:
    command = [postgres_binaries(None) / "pg_dump", database_url.replace("+psycopg", "")]
    return subprocess.run(command, capture_output=True, check=True).stdout


async def stored_answers(database_url: str) -> bytes:
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT response::text, fingerprint FROM idempotency_keys").fetchall()
    assert rows
    assert all(fingerprint.startswith("hmac-sha256:") for _, fingerprint in rows)
    return "".join(response for response, _ in rows).encode()


def keep_temporary_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the files in which uploads wait a name, so that what was in them can be read."""
    directory = tmp_path / "spools"
    directory.mkdir()

    def named(**options: Any) -> Any:
        return tempfile.NamedTemporaryFile(dir=directory, delete=False, **options)

    monkeypatch.setattr("app.sealing.spool.TemporaryFile", named)
    return directory


async def run_all(runtime: Runtime) -> None:
    """Run jobs until none waits."""
    waiting = select(Job.id).where(Job.state == JobState.QUEUED)
    while True:
        with runtime.sessions() as session:
            if session.scalars(waiting).first() is None:
                return
        await asyncio.to_thread(run_next, runtime)


MOVED = {
    "a byte of a text": """
        UPDATE texts SET sealed_text = set_byte(sealed_text, 20, get_byte(sealed_text, 20) # 1)""",
    "the text of another row": """
        UPDATE texts SET sealed_text = (SELECT sealed_text FROM texts WHERE ordinal = 3
        AND text_set_id = %(one)s) WHERE ordinal = 2""",
    "the text of another set": """
        UPDATE texts AS t SET sealed_text = (SELECT sealed_text FROM texts AS o
        WHERE o.ordinal = t.ordinal AND o.text_set_id = %(other)s)""",
    "choices as metadata": "UPDATE texts SET sealed_metadata = sealed_choices WHERE ordinal = 0",
    "the key of another set": """
        UPDATE text_set_keys SET wrapped = (SELECT wrapped FROM text_set_keys
        WHERE text_set_id = %(other)s)""",
    "a byte of the key": """
        UPDATE text_set_keys SET wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1)""",
}


@pytest.mark.parametrize("change", MOVED.values(), ids=MOVED.keys())
async def test_what_was_changed_or_moved_is_never_given_out(
    client: httpx.AsyncClient, database: psycopg.Connection, sessions: sessionmaker[Session], change: str
) -> None:
    one, other = await upload(client), await upload(client)
    database.execute(change, {"one": one, "other": other})
    answer = await client.get(f"/v1/text-sets/{public(one)}/texts")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (500, "seal-broken")
    assert CANARY not in answer.text
    with sessions() as session, pytest.raises(SealBroken):
        read_texts(session, one, 0, len(TEXTS))


async def test_all_keys_are_wrapped_anew_while_texts_are_read_and_written(
    client: httpx.AsyncClient,
    settings: Settings,
    sessions: sessionmaker[Session],
    keyring: Keyring,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rotation is broken off and begun again; work goes on through it; then the old key is taken away."""
    sets = [await upload(client) for _ in range(3)]
    old = keyring.wraps_with()
    with sessions.begin() as session:
        assert master_keys_needed(session) == {old: 4}, "three sets, and the key of digests"
        digest = keyed_fingerprint(session, "0" * 64)
    (path,) = (tmp_path / "keys").iterdir()
    path = path.rename(path.with_name("20250101T000000Z.key"))
    with sessions() as reading:
        batches = iterate_text_batches(reading, sets[0], batch_size=3)
        seen = next(batches)
        new = make_master_key(tmp_path / "keys").key_id
        with sessions.begin() as session:
            assert len(rewrap_text_set_keys(session, new, UUID(int=0), 2)) == 2
        with sessions() as session:
            assert master_keys_needed(session) == {old: 2, new: 2}
        sets.append(await upload(client))
        assert _rewrap(sessions, keyring) == (new, 2)
        path.unlink()
        seen += [text for batch in batches for text in batch]
    assert seen == SENTENCES
    keyring._opened.clear()  # a process that runs for longer than it keeps opened keys
    with sessions() as session:
        assert master_keys_needed(session) == {new: 5}
        assert keyed_fingerprint(session, "0" * 64) == digest
    # Nobody who starts now has ever had the old key.
    async with (
        running_app(settings.model_copy()) as fresh,
        client_of(fresh, make_key(settings)) as reader,
    ):
        for text_set in sets:
            shown = (await reader.get(f"/v1/text-sets/{public(text_set)}/texts")).json()["data"]
            assert [text["text"] for text in shown] == SENTENCES


async def test_a_key_that_comes_during_an_upload_wraps_what_is_uploaded(
    app: FastAPI,
    client: httpx.AsyncClient,
    settings: Settings,
    sessions: sessionmaker[Session],
    tmp_path: Path,
) -> None:
    """Else the older one is needed by something that nobody sees before the upload ends."""
    (path,) = (tmp_path / "keys").iterdir()
    path.rename(path.with_name("20250101T000000Z.key"))
    made: list[str] = []

    def rows() -> Iterator[Row]:
        yield "/texts/0", {"text": SENTENCES[0]}
        made.append(make_master_key(tmp_path / "keys").key_id)

    principals: Principals = app.state.principals
    secret = client.headers["authorization"].removeprefix("Bearer ")
    principal = await principals.require(principals.bearer(secret), "")
    names: dict[str, Any] = {"name": "set", "metadata": {}}
    await app.state.store.run_long(store_texts, principal, rows=rows(), settings=settings, **names)
    with sessions() as session:
        assert master_keys_needed(session)[made[0]] == 1


async def test_without_its_master_key_nothing_is_answered_wrong(
    client: httpx.AsyncClient, settings: Settings, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    text_set = await upload(client)
    (path,) = (tmp_path / "keys").iterdir()
    taken = path.rename(tmp_path / path.name)
    # It starts no more: without a key, and with another one than what is stored was wrapped with.
    with pytest.raises(KeyUnavailable, match="no master key"):
        async with running_app(settings):
            pass
    make_master_key(tmp_path / "keys")
    with pytest.raises(KeyUnavailable, match="not among the keys"):
        async with running_app(settings):
            pass
    # What runs says so once it has forgotten the key that it had opened.
    ring: Keyring = client._transport.app.state.store._sessions.kw["info"]["keyring"]  # type: ignore[attr-defined]
    ring._opened.clear()
    for answer in (
        await client.get(f"/v1/text-sets/{public(text_set)}/texts"),
        await client.post("/v1/text-sets", json={"name": "set", "texts": TEXTS}),
    ):
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (503, "key-unavailable")
    assert (await client.get(f"/v1/text-sets/{public(text_set)}")).status_code == 200, "it holds no text"
    taken.rename(path)
    assert (await client.get(f"/v1/text-sets/{public(text_set)}/texts")).status_code == 200
    with sessions.begin() as session:
        require_keys(session)


async def test_erasing_takes_the_key_and_a_backup_opens_as_long_as_it_has_one(
    client: httpx.AsyncClient,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    keyring: Keyring,
    tmp_path: Path,
) -> None:
    """Rows from a backup are nothing without their key; with it, until the master key of then is gone."""
    text_set = await upload(client)
    for table in ("texts", "text_set_keys"):
        database.execute(f"CREATE TABLE backup_{table} AS TABLE {table}")
    assert (await client.delete(f"/v1/text-sets/{public(text_set)}")).status_code == 200
    for table in ("texts", "text_set_keys", "token_evidence"):
        assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)

    database.execute("INSERT INTO texts SELECT * FROM backup_texts")
    with sessions() as session:
        assert read_texts(session, text_set, 0, 3) == []
        with pytest.raises(NotFound):
            list(iterate_text_batches(session, text_set))
    database.execute("INSERT INTO text_set_keys SELECT * FROM backup_text_set_keys")
    with sessions() as session:
        assert [text.text for text in read_texts(session, text_set, 0, 3)] == SENTENCES[:3]
    database.execute("DELETE FROM text_set_keys")
    (path,) = (tmp_path / "keys").iterdir()
    path = path.rename(path.with_name("20250101T000000Z.key"))
    make_master_key(tmp_path / "keys")
    _rewrap(sessions, keyring)
    path.unlink()
    keyring._opened.clear()
    database.execute("INSERT INTO text_set_keys SELECT * FROM backup_text_set_keys")
    with sessions() as session, pytest.raises(KeyUnavailable):
        read_texts(session, text_set, 0, 3)


async def test_evidence_goes_with_its_text_set(
    client: httpx.AsyncClient, runtime: Runtime, sessions: sessionmaker[Session], checkpoint: Path
) -> None:
    text_set, kept = await upload(client), await upload(client, [{"text": "A last one stays."}])
    model = await post(client, "/v1/models", {"source": {"type": "path", "path": str(checkpoint)}})
    audits = [
        await post(client, "/v1/audits", {"model": model["id"], "text_set": public(each), "metrics": ["nl"]})
        for each in (text_set, kept)
    ]
    await run_all(runtime)
    await client.delete(f"/v1/text-sets/{public(text_set)}")
    gone, stays = (f"/v1/audits/{audit['id']}/scores" for audit in audits)
    assert (await client.get(f"{gone}/0/tokens")).status_code == 404
    assert len((await client.get(gone)).json()["data"]) == len(TEXTS), "numbers stay"
    assert (await client.get(f"{stays}/0/tokens")).status_code == 200
    with sessions() as session:
        identifiers = [parse_id(Prefix.AUDIT, audit["id"]) for audit in audits]
        found = [read_evidence(session, each, 0) for each in identifiers if each is not None]
    assert [each is None for each in found] == [True, False]


async def test_a_program_holds_the_master_key_and_others_are_answered_while_it_is_asked(
    settings: Settings, tmp_path: Path
) -> None:
    program, asked, may_answer = (tmp_path / name for name in ("kms", "asked", "may-answer"))
    program.write_text(
        f"#!/bin/sh\ntouch {asked}\nwhile [ ! -e {may_answer} ]; do sleep 0.02; done\n"
        """sed 's/"operation":"wrap","key":"\\(.*\\)"/"key_id":"k","wrapped":"\\1"/; """
        """s/"operation":"unwrap","wrapped":"\\([^"]*\\)".*/"key":"\\1"}/'\n"""
    )
    program.chmod(0o755)
    may_answer.touch()
    settings = settings.model_copy(update={"key_command": str(program)})
    async with running_app(settings) as app, client_of(app, make_key(settings)) as client:
        asked.unlink()
        may_answer.unlink()
        uploading = asyncio.create_task(upload(client))
        while not asked.exists():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
        assert (await client.get("/healthz")).status_code == 200
        assert not uploading.done()
        may_answer.touch()
        text_set = await uploading
        texts = (await client.get(f"/v1/text-sets/{public(text_set)}/texts")).json()["data"]
    assert [text["text"] for text in texts] == SENTENCES


def test_secrets_are_sealed_with_the_keys_of_the_process() -> None:
    sealed = seal_secret(b"whsec_secret")
    assert b"whsec_secret" not in sealed
    assert open_secret(sealed) == b"whsec_secret"
    with pytest.raises(SealBroken):
        open_secret(sealed[:-1] + bytes([sealed[-1] ^ 1]))
