"""The corpus of bad input against a real service: the expected status, nothing repeated, no row changed."""

import http.client
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from app.settings import Settings
from app.signing.keys import ensure_signing_key
from app.store.core.base import Base
from tests.corpus.reading import BadCase, read_corpus
from tests.integration.bad_requests import MAX_REQUEST, cases, make_resources
from tests.live_service import LiveService, make_key

SCOPES = ("audit:read", "audit:write", "edit:read", "edit:write")
# What the service itself brings up to date while nobody asks for anything.
_BY_ITSELF = frozenset(
    {
        "api_keys.last_used_at",
        "trail.place",
        "trail.previous_sha256",
        "trail.sha256",
        "webhook_cursor.place",
    }
)
OPEN_STATUSES = {200, 206, 304}
CASES = read_corpus()


@dataclass
class LiveWorld:
    """A live service with resources of a tenant, and the keys of those who ask."""

    service: LiveService
    database: psycopg.Connection
    ids: dict[str, str]
    keys: dict[str, str | None]
    paths: dict[str, Any]
    digests: sql.Composed

    def send(self, case: BadCase) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a case as it is, byte for byte."""
        host = self.service.url.removeprefix("http://")
        valid = cases(self.ids).get(self.route_of(case))
        message = case.message(
            host=host, key=self.keys[case.sender], ids=self.ids, valid_body=valid and valid.body
        )
        assert case.secret.encode() in message, "what must not be repeated is not even sent"
        address, _, port = host.partition(":")
        with socket.create_connection((address, int(port)), timeout=20) as connection:
            connection.sendall(message)
            response = http.client.HTTPResponse(connection, method=case.method)
            response.begin()
            return response, response.read()

    def route_of(self, case: BadCase) -> str | None:
        """The operation that the case is meant for, if there is one."""
        path = case.target.partition("?")[0]
        for template, operations in self.paths.items():
            pattern = re.sub(r"\\{(path|folder)\\}", ".+", re.escape(template))
            if case.method.lower() in operations and re.fullmatch(
                re.sub(r"\\{\w+\\}", "[^/]+", pattern), path
            ):
                return f"{case.method} {template}"
        return None

    def digest(self) -> dict[str, str]:
        """What each table holds."""
        return dict(self.database.execute(self.digests).fetchall())


def digest_statement() -> sql.Composed:
    """A query for the digest of each table's rows."""
    digests = []
    for name, table in Base.metadata.tables.items():
        columns = [sql.Identifier(c.name) for c in table.columns if f"{name}.{c.name}" not in _BY_ITSELF]
        rows = sql.SQL("(SELECT ROW({})::text AS r FROM {}) rows").format(
            sql.SQL(", ").join(columns), sql.Identifier(name)
        )
        digests.append(sql.SQL("SELECT {}, md5(string_agg(r, ',' ORDER BY r)) FROM ").format(name) + rows)
    return sql.SQL(" UNION ALL ").join(digests)


@pytest.fixture
async def live_world(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[LiveWorld]:
    files = tmp_path / "files"
    (files / "sub").mkdir(parents=True)
    (files / "config.json").write_text("{}")
    (files / "sub" / "config.json").write_text("{}")
    root = tmp_path / "roots"
    ensure_signing_key(tmp_path / "signing-keys")
    limits = {"MEMAUDIT_MAX_REQUEST_BYTES": str(MAX_REQUEST), "MEMAUDIT_MAX_JSON_BYTES": str(MAX_REQUEST)}
    service = LiveService(
        tmp_path, database_url=database_url, broker_url=broker_url, model_roots=[root], **limits
    )
    url = database_url.replace("+psycopg", "")
    keys = {
        "writer": make_key(database_url, scopes=(*SCOPES, "admin")),
        "reader": make_key(database_url, scopes=("audit:read",)),
        "stranger": make_key(database_url, tenant="other", scopes=SCOPES),
        "nobody": None,
    }
    settings = Settings(database_url=database_url, broker_url=broker_url)
    headers = {"Authorization": f"Bearer {keys['writer']}"}
    with service, psycopg.connect(url, autocommit=True) as database:
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=60) as client:
            ids = await make_resources(client, settings, files)
            paths = (await client.get("/openapi.json")).json()["paths"]
        yield LiveWorld(service, database, ids | {"root": str(root)}, keys, paths, digest_statement())


def test_the_corpus_is_large_and_names_each_case_once() -> None:
    assert len(CASES) >= 120
    assert len({(case.subject, case.name) for case in CASES}) == len(CASES)


def test_every_case(live_world: LiveWorld, subtests: pytest.Subtests) -> None:
    before, read = live_world.digest(), 0
    for case in CASES:
        with subtests.test(subject=case.subject, name=case.name):
            response, body = live_world.send(case)
            logs = live_world.service.logs()
            fresh, read = logs[read:], len(logs)
            assert response.status == case.status, body[:500]
            for place in (body.decode("utf-8", "replace"), str(response.getheaders()), fresh):
                assert case.secret not in place
            assert "unexpected_error" not in fresh
            if case.status not in OPEN_STATUSES:
                assert_problem(case, response, body)
            earlier, before = before, live_world.digest()
            changed = {table for table in before if before[table] != earlier[table]}
            # A file that was sent after all is a download, which the trail has to tell.
            assert changed <= ({"trail"} if case.status in OPEN_STATUSES else set())
    aimed = {live_world.route_of(case) for case in CASES}
    operations = {f"{m.upper()} {p}" for p, methods in live_world.paths.items() for m in methods}
    assert operations <= aimed, operations - aimed


def assert_problem(case: BadCase, response: http.client.HTTPResponse, body: bytes) -> None:
    if case.method == "HEAD":
        assert body == b""
        return
    assert response.headers["content-type"] == "application/problem+json"
    problem = httpx.Response(200, content=body).json()
    assert problem["status"] == case.status
    assert problem["type"].rpartition("/")[2] == case.type
    assert problem["request_id"] == response.headers["x-request-id"]
    if case.errors is not None:
        assert [f"{error['pointer']} {error['code']}" for error in problem["errors"]] == case.errors
