"""A database of the previous release, its rows made by that release's own processes, goes on under this one.

`data/release_0_1.sql.gz` and what its API answered, `data/release_0_1.json.gz`, are written by
`tests.release_database`.
"""

import csv
import gzip
import hashlib
import io
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.embedded.binaries import postgres_binaries
from app.embedded.postgres_server import PostgresServer
from app.embedded.redis_server import RedisServer
from app.sealing.keyring import get_keyring
from app.store.conversion import convert_all, convert_some
from app.store.core.identifiers import Prefix, parse_id
from app.store.core.migrate import downgrade, upgrade
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.data_keys import keyed_digest
from app.store.edits import Edit
from app.store.tenants import Tenant
from app.store.text_sets import TextSet
from app.store.texts import read_texts
from app.store.token_evidence import read_evidence
from tests.hub_server import REPOSITORY, hub
from tests.live_service import TERMINAL, LiveService
from tests.tiny_models import save_tiny_model

DATA = Path(__file__).parent / "data"
RELEASE = "release_0_1"
REVISION = "0004"
REDIS_DATABASE = 0
# Each comes after those that it refers to.
TABLES = (
    *("tenants", "api_keys", "idempotency_keys", "text_sets", "texts", "blobs", "blob_chunks", "artifacts"),
    *("artifact_files", "language_models", "audits", "edits", "edit_text_sets", "factors", "scores"),
    *("token_evidence", "jobs"),
)
# What is answered otherwise on purpose: a failure that is the client's to mend carries no server's status.
CHANGED = {("error", "status")}


class Upgraded(NamedTuple):
    """The service of this release on the rows of the previous one, and what the previous one answered."""

    service: LiveService
    answers: dict[str, Any]
    sent: dict[str, Any]


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress((DATA / f"{RELEASE}.json.gz").read_bytes()))
    return content


@pytest.fixture(
    scope="module", params=[False, True], ids=["rows-of-before", "rows-that-old-processes-write-meanwhile"]
)
def upgraded(
    request: pytest.FixtureRequest,
    facts: dict[str, Any],
    postgres_server: PostgresServer,
    redis_server: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Upgraded]:
    url = restored(postgres_server, f"upgraded_{request.param_index}")
    upgrade(url)
    if request.param:
        write_again(url)
    else:
        convert_all(url, get_keyring())
    with psycopg.connect(url) as connection:
        # Keys are forgotten after a week, and this file grows old.
        connection.execute("UPDATE idempotency_keys SET created_at = clock_timestamp()")
    commits = {"c" * 40: save_tiny_model(tmp_path_factory.mktemp("hub") / "tiny")}
    with (
        hub(commits, {"main": "c" * 40}) as endpoint,
        LiveService(
            tmp_path_factory.mktemp("service"),
            database_url=url,
            broker_url=redis_server.url_of(REDIS_DATABASE),
            model_roots=[Path("/models")],
            lease_seconds=12.0,
            HF_ENDPOINT=endpoint,
            HF_HUB_OFFLINE="0",
        ) as service,
    ):
        service.client = service.client_for(facts["key"])
        yield Upgraded(service, facts["answers"], facts["sent"])
    with redis_server.client(REDIS_DATABASE) as client:
        client.flushdb()


def test_every_answer_is_given_again(upgraded: Upgraded) -> None:
    """Whatever the previous release answered is answered still, with the same numbers; fields may be new."""
    assert len(upgraded.answers) > 100
    for path, before in upgraded.answers.items():
        response = upgraded.service.client.get(path)
        assert response.status_code == 200, (path, response.text)
        assert list(differences(before, response.json())) == [], path


def test_every_end_is_there_to_be_read(upgraded: Upgraded) -> None:
    """The rows are not all alike: each state that an older release can leave is among them."""
    answers = upgraded.answers
    states = {kind: {one["status"] for one in answers[f"/v1/{kind}?limit=100"]["data"]} for kind in KINDS}
    assert states["models"] == {"queued", "ready", "rejected"}
    assert states["audits"] == {"queued", "running", "succeeded", "failed", "cancelled"}
    assert states["edits"] == {"queued", "succeeded", "failed"}
    edits = answers["/v1/edits?limit=100"]["data"]
    assert {edit["method"] for edit in edits if edit["receipt"]} == {"kfac", "svd", "balanced_subnet"}
    assert {edit["status"] for edit in edits if edit["frontier"]} == {"succeeded", "failed"}


KINDS = ("models", "audits", "edits")


def test_scores_are_exported(upgraded: Upgraded) -> None:
    client = upgraded.service.client
    pages = {
        path: page["data"] for path, page in upgraded.answers.items() if path.endswith("/scores?limit=1000")
    }
    for path, rows in pages.items():
        url = path.partition("?")[0]
        lines = client.get(url, headers={"Accept": "application/jsonl"}).text.splitlines()
        for before, line in zip(rows, lines, strict=True):
            assert list(differences(before, json.loads(line))) == []
        table = list(csv.DictReader(io.StringIO(client.get(url, headers={"Accept": "text/csv"}).text)))
        numbers = [row["nl"] for row in table]
        assert numbers == ["" if row["nl"] is None else repr(row["nl"]) for row in rows]
        parquet = client.get(url, headers={"Accept": "application/vnd.apache.parquet"})
        assert parquet.content.startswith(b"PAR1")


def test_artifacts_have_their_bytes(upgraded: Upgraded) -> None:
    artifacts = [answer for path, answer in upgraded.answers.items() if path.startswith("/v1/artifacts/")]
    assert len(artifacts) == 4
    for artifact in artifacts:
        for file in artifact["files"]:
            response = upgraded.service.client.get(f"/v1/artifacts/{artifact['id']}/files/{file['path']}")
            assert hashlib.sha256(response.content).hexdigest() == file["sha256"]


def test_a_request_that_is_repeated_finds_its_first_answer(upgraded: Upgraded) -> None:
    sent = upgraded.sent
    response = upgraded.service.client.post(sent["path"], json=sent["body"], headers=sent["headers"])
    assert response.status_code == 202
    assert response.json()["id"] == sent["id"]


def test_work_that_was_left_is_done(upgraded: Upgraded) -> None:
    """A worker takes up what waited, and what a worker of the previous release held when it died."""
    service, answers = upgraded.service, upgraded.answers
    left = {
        f"/v1/{kind}/{one['id']}"
        for kind in KINDS
        for one in answers[f"/v1/{kind}?limit=100"]["data"]
        if one["status"] in {"queued", "running"}
    }
    assert len(left) == 4
    service.start_worker()
    ends = {path: end_of(service, path) for path in left}
    assert {end["status"] for end in ends.values()} == {"succeeded", "ready"}, (ends, service.logs()[-3000:])
    (registered,) = (end for end in ends.values() if end["object"] == "language_model")
    assert registered["source"]["repo"] == REPOSITORY

    # Some of its texts were scored by the previous release, others now.
    (begun,) = (end for path, end in ends.items() if answers[path]["status"] == "running")
    again = service.audit(begun["model"], begun["text_set"], options=begun["options"])
    assert service.end_of(again)["status"] == "succeeded"
    assert begun["options"]["prefix_token"] == "bos_else_eos"
    for then, now in zip(service.scores(begun["id"]), service.scores(again), strict=True):
        assert then["nl"] == pytest.approx(now["nl"], rel=1e-5)


def test_the_schema_goes_back_and_forth_around_the_rows(postgres_server: PostgresServer) -> None:
    url = restored(postgres_server, "back_and_forth")
    before = contents(url)
    upgrade(url)
    after = contents(url)
    downgrade(url, REVISION)
    assert contents(url) == before
    upgrade(url)
    assert contents(url) == after


def test_what_was_stored_in_clear_is_sealed(postgres_server: PostgresServer) -> None:
    """Broken off in the middle and begun again: then nothing of it is left, and all is read as it was."""
    url = restored(postgres_server, "converted")
    with psycopg.connect(url) as connection:
        texts = connection.execute(
            "SELECT text_set_id, ordinal, text, choices, metadata FROM texts ORDER BY text_set_id, ordinal"
        ).fetchall()
        evidence = connection.execute(
            "SELECT audit_id, ordinal, token_ids, ranks, spans FROM token_evidence ORDER BY audit_id, ordinal"
        ).fetchall()
        digests = dict(connection.execute("SELECT id, sha256 FROM text_sets WHERE sha256 <> ''").fetchall())
    assert len(texts) > 50
    assert len(evidence) > 10
    upgrade(url)
    engine = sync_engine(url)
    sessions = sync_sessions(engine)
    with sessions.begin() as session:
        while convert_some(session, limit=7) < 7:  # digests are first, each for itself
            pass
        assert all_texts(session, texts) == texts
    assert convert_all(url, get_keyring()) > len(texts) - 7
    assert convert_all(url, get_keyring()) == 0
    with psycopg.connect(url) as connection:
        # Those of work that is under way too.
        left = connection.execute("SELECT id FROM text_sets WHERE digest_is_keyed IS NULL").fetchall()
        assert left == []
    with sessions() as session:
        assert all_texts(session, texts) == texts
        for audit_id, ordinal, *arrays in evidence:
            found = read_evidence(session, audit_id, ordinal)
            assert found is not None
            assert [found.token_ids, found.ranks, found.spans] == arrays
        keyed = {row.id: row.hmac_sha256 for row in session.scalars(select(TextSet))}
        tenant_id = session.scalars(select(Tenant.id)).one()
        for text_set_id, plain in digests.items():
            assert keyed[text_set_id] == keyed_digest(session, tenant_id, plain) != plain
        for edit in session.scalars(select(Edit).where(Edit.receipt.is_not(None))):
            assert edit.receipt is not None
            for used in edit.receipt["text_sets"].values():
                assert used["hmac_sha256"] == keyed[parse_id(Prefix.TEXT_SET, used["id"])]
    engine.dispose()
    command = [postgres_binaries(None) / "pg_dump", url]
    dump = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    clear = [*digests.values(), *(row[2] for row in texts if len(row[2]) > 20)]
    assert [each for each in clear if each.replace("\n", "\\n") in dump] == []


def all_texts(session: Session, rows: list[Any]) -> list[Any]:
    """The texts of all sets as the rows of before had them."""
    return [
        (text_set_id, text.ordinal, text.text, text.choices, text.metadata)
        for text_set_id in sorted({row[0] for row in rows})
        for text in read_texts(session, text_set_id, 0, 1000)
    ]


def restored(postgres_server: PostgresServer, name: str) -> str:
    """The URL of a new database with the rows of the previous release."""
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = postgres_server.url_of(name)
    with psycopg.connect(url) as connection:
        connection.execute(gzip.decompress((DATA / f"{RELEASE}.sql.gz").read_bytes()))
        assert connection.execute("SELECT version_num FROM public.alembic_version").fetchone() == (REVISION,)
    return url


def write_again(url: str) -> None:
    """Write every row as a process of the previous release would now: it names the columns that it knows."""
    with psycopg.connect(url) as connection:
        kept = {
            table: connection.execute(f"CREATE TEMP TABLE old_{table} AS TABLE {table}") for table in TABLES
        }
        # Tables that are new since refer to these; nothing is in them yet.
        connection.execute(f"TRUNCATE {', '.join(kept)} CASCADE")
        for table in TABLES:
            columns = ", ".join(columns_of_then()[table])
            connection.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM old_{table}")


def columns_of_then() -> dict[str, list[str]]:
    """The columns that each table had."""
    columns: dict[str, list[str]] = {}
    table = None
    for line in gzip.decompress((DATA / f"{RELEASE}.sql.gz").read_bytes()).decode().splitlines():
        if line.startswith("CREATE TABLE public."):
            table = line.removeprefix("CREATE TABLE public.").removesuffix(" (")
            columns[table] = []
        elif line.startswith(");"):
            table = None
        elif table is not None and not line.lstrip().startswith("CONSTRAINT"):
            columns[table].append(line.split()[0])
    return columns


def contents(url: str) -> dict[str, Any]:
    """A digest of the rows of each table."""
    with psycopg.connect(url) as connection:
        # A migration adds the time that was left out when a job was swept, and leaves it there.
        connection.execute(
            "UPDATE jobs SET finished_at = created_at WHERE state NOT IN ('queued', 'running')"
        )
        digest = "SELECT count(*), md5(string_agg(row::text, '|' ORDER BY row::text)) FROM {} AS row"
        return {table: connection.execute(digest.format(table)).fetchone() for table in TABLES}


def differences(before: Any, now: Any, *at: str) -> Iterator[tuple[Any, ...]]:
    """Where an answer no longer says what it said."""
    if at[-2:] in CHANGED or is_a_digest_of_texts(before, now, *at):
        return
    before = as_said_today(before, now)
    if isinstance(before, dict) and isinstance(now, dict):
        for name, value in before.items():
            yield from differences(value, now.get(name, "missing"), *at, name)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from differences(one, other, *at, str(number))
    elif before != now:
        yield at, before, now


def is_a_digest_of_texts(before: Any, now: Any, *at: str) -> bool:
    """Whether it is another one now, or has another name, because it is keyed."""
    renamed = at[-1:] == ("sha256",) and now == "missing"
    if at[-2:] != ("digests", "text_set"):
        return renamed
    # It is null while it is that of an older process.
    return now is None or (before != now and len(now) == len(before))


def as_said_today(before: Any, now: Any) -> Any:
    """A number of then, in the shape that numbers like it have now.

    Means and shares had no interval where now they have one, or one of a method that claimed too much. Then
    that is left out.
    """
    if not isinstance(now, dict) or not isinstance(before, float | dict):
        return before
    if isinstance(before, float):
        return {"share" if "share" in now else "mean": before}
    if "share" in now and "mean" in before:
        return {"n": before["n"], "share": before["mean"]}
    return before


def end_of(service: LiveService, path: str, seconds: float = 120) -> dict[str, Any]:
    """A resource once nothing more happens to it."""
    deadline = time.monotonic() + seconds
    while True:
        resource: dict[str, Any] = service.client.get(path).json()
        if resource["status"] in {*TERMINAL, "ready", "rejected"}:
            return resource
        assert time.monotonic() < deadline, (resource, service.logs()[-3000:])
        time.sleep(0.2)
