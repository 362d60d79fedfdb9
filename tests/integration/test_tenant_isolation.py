"""No tenant sees or affects what another has: every route and page, with another's real ids.

A new route with an id that has no place in `ids`, or without a valid request in `bad_requests`, fails the
test: it says what is to be added.
"""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from psycopg import sql
from psycopg.types.json import Jsonb

from app.contracts.tenants import SCOPES as ALL_SCOPES
from app.pages import install
from app.settings import Settings
from app.signing.keys import rotate_signing_key
from app.store.core.base import Base
from tests.http_api import client_of, make_key
from tests.integration.bad_requests import OPEN, Case, cases, make_resources, nodes, replaced, takes_key

SCOPES = tuple(scope for scope in ALL_SCOPES if scope != "admin")
ID = re.compile(r"\b[a-z]{3}_[0-9a-f]{32}\b")
# What a path is to hold beside ids; and pages that are nobody's.
PAGE_PARTS = {"plural": "audits", "name": "junit", "suffix": "csv", "plot": "dose-response"}
NOBODYS_PAGES = {"/static/{digest}/{name}"}


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    keys = tmp_path_factory.mktemp("keys")
    rotate_signing_key(keys)
    return Settings(
        database_url=database_url, broker_url=broker_url, signing_keys=keys, wrong_keys_a_minute=100_000
    )


@pytest.fixture
async def ids(app: FastAPI, settings: Settings, tmp_path: Path) -> dict[str, str]:
    """Resources of every kind of the tenant `acme`."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "config.json").write_text("{}")
    async with client_of(app, make_key(settings, scopes=(*SCOPES, "admin"))) as owner:
        made = await make_resources(owner, settings, tmp_path)
        events = (await owner.get("/v1/events")).json()["data"]
        return made | {"event_id": events[0]["id"]}


@pytest.fixture
async def stranger(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Another tenant, which may do everything but administer all of them."""
    key = make_key(settings, tenant="other", scopes=SCOPES)
    async with client_of(app, key) as client:
        client.headers["Origin"] = "http://memaudit"
        assert (await client.post("/sign-in", data={"key": key})).status_code == 303
        yield client


def rows(database: psycopg.Connection) -> set[str]:
    """Every row of every table, but for those by which the stranger asks, and what goes on by itself."""
    found = set()
    for name in Base.metadata.tables.keys() - {"api_keys", "page_sessions", "trail", "webhook_cursor"}:
        found |= {f"{name} {row}" for (row,) in database.execute(f"SELECT t::text FROM {name} t").fetchall()}
    keys = database.execute(
        "SELECT k::text FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE t.name <> 'other'"
    )
    return found | {f"key {row}" for (row,) in keys.fetchall()}


def requests(
    case: Case, method: str, path: str, operation: dict[str, Any], ids: dict[str, str]
) -> Iterator[Any]:
    """A route's valid request with the ids of the other tenant; one more for each parameter that is an id."""
    names = re.findall(r"\{(\w+)\}", path)
    missing = [name for name in names if name not in ids]
    assert not missing, f"make a resource for {missing} of {path} in bad_requests.make_resources"
    filled = path.format(**ids)
    headers = {"Idempotency-Key": uuid4().hex} if takes_key(operation) else {}
    yield method, filled, headers, case.body, {}
    for parameter in operation.get("parameters", []):
        pattern = re.search(r"\^\(?([a-z|]+)\)?_\[", str(parameter["schema"]))
        if parameter["in"] == "query" and pattern is not None:
            prefix = pattern[1].partition("|")[0]
            known = [value for value in ids.values() if value.startswith(f"{prefix}_")]
            assert known, f"make a resource for {parameter['name']} of {path} in bad_requests.make_resources"
            yield method, filled, headers, case.body, {parameter["name"]: known[0]}


async def test_no_route_shows_or_changes_what_another_tenant_has(
    app: FastAPI,
    ids: dict[str, str],
    stranger: httpx.AsyncClient,
    database: psycopg.Connection,
    subtests: pytest.Subtests,
) -> None:
    assert (await stranger.get("/v1/audits")).json()["data"] == []
    before = rows(database)
    secrets = {*ids.values()} & {value for value in ids.values() if ID.fullmatch(value)}
    known = cases(ids)
    for path, operations in app.openapi()["paths"].items():
        for method, operation in operations.items():
            route = f"{method.upper()} {path}"
            if route in OPEN:
                continue
            case = known[route]
            for sent in requests(case, method.upper(), path, operation, ids):
                with subtests.test(route=route, query=sent[4]):
                    await assert_hidden(stranger, case, secrets, sent)
    for path in pages():
        with subtests.test(page=path):
            await assert_page_hidden(stranger, path, ids, secrets)
    assert before <= rows(database)


async def assert_hidden(client: httpx.AsyncClient, case: Case, secrets: set[str], sent: Any) -> None:
    """A request with another's id is answered 404, or an empty list; one without shows nothing of another."""
    method, path, headers, body, params = sent
    answer = await client.request(method, path, headers=headers, json=body, params=params)
    named = ID.search(f"{path} {body}") or (not case.shared and "{" not in path and "/acme/" in path)
    if case.scope == "admin":
        assert answer.status_code == 403
    elif named:
        assert answer.status_code == 404, answer.text
        if method == "GET":
            head = await client.request("HEAD", path, headers=headers)
            assert head.status_code in {404, 405}
    elif params:
        assert answer.status_code == 404 or answer.json()["data"] == [], answer.text
    else:
        assert answer.is_success, answer.text
    assert not secrets & set(ID.findall(answer.text)), answer.text


TABLES = {
    "txs": "text_sets",
    "mdl": "language_models",
    "aud": "audits",
    "pol": "policies",
    "lin": "model_lines",
    "whk": "webhook_endpoints",
    "dlv": "webhook_deliveries",
}


class Copies:
    """Copies of a tenant's resources that another tenant has."""

    def __init__(self, database: psycopg.Connection) -> None:
        self._database = database
        row = database.execute("SELECT id FROM tenants WHERE name = 'other'").fetchone()
        assert row is not None
        self._changes = {"tenant_id": row[0].hex}
        self._made: dict[str, str] = {}

    def of(self, public_id: str) -> str:
        """The copy of a resource, which differs in its id and in whose it is."""
        prefix, _, hex_id = public_id.partition("_")
        if public_id not in self._made:
            copied = uuid4().hex
            table = sql.Identifier(TABLES[prefix])
            self._database.execute(
                sql.SQL(
                    "INSERT INTO {table} SELECT (jsonb_populate_record(t, %s)).* FROM {table} t WHERE id = %s"
                ).format(table=table),
                (Jsonb({"id": copied, **self._changes}), hex_id),
            )
            self._made[public_id] = f"{prefix}_{copied}"
        return self._made[public_id]

    def of_delivery(self, public_id: str, webhook: str) -> str:
        """A delivery of a copy of its webhook."""
        self._changes["endpoint_id"] = self.of(webhook).partition("_")[2]
        return self.of(public_id)


async def test_each_id_of_a_request_has_to_be_of_the_own_tenant(
    app: FastAPI,
    ids: dict[str, str],
    settings: Settings,
    stranger: httpx.AsyncClient,
    database: psycopg.Connection,
    subtests: pytest.Subtests,
) -> None:
    """The owner asks for work with what it has, but for one thing that another tenant has."""
    assert (await stranger.get("/v1/audits")).status_code == 200
    copies = Copies(database)
    copies.of_delivery(ids["delivery_id"], ids["webhook_id"])
    asked = []
    for route, case in cases(ids).items():
        method, _, path = route.partition(" ")
        names = [name for name in re.findall(r"\{(\w+)\}", path) if name in ids and ID.fullmatch(ids[name])]
        if len(names) > 1:
            last = names[-1]
            asked.append((method, path.format(**ids | {last: copies.of(ids[last])}), case.body, last))
        for place, value in nodes(case.body):
            if isinstance(value, str) and ID.fullmatch(value):
                assert case.body is not None
                body = replaced(case.body, place, copies.of(value))
                asked.append((method, path.format(**ids), body, str(place)))
    before = rows(database)
    async with client_of(app, make_key(settings, scopes=(*SCOPES, "admin"))) as owner:
        for method, path, body, place in asked:
            with subtests.test(route=f"{method} {path}", place=place):
                headers = {"Idempotency-Key": uuid4().hex}
                answer = await owner.request(method, path, headers=headers, json=body)
                assert answer.status_code == 404, answer.text
    assert len(asked) > 20
    assert before <= rows(database)


def pages() -> Iterator[str]:
    """The pages that show something in particular."""
    for router in install._ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            if "{" in route.path and "GET" in route.methods and route.path not in NOBODYS_PAGES:
                yield route.path


async def assert_page_hidden(
    client: httpx.AsyncClient, path: str, ids: dict[str, str], secrets: set[str]
) -> None:
    subject = {"audits": "audit_id", "studies": "study_id", "edits": "edit_id", "gates": "gate_id"}
    parts = PAGE_PARTS | ids | {"subject": ids[subject["audits"]], "plural": "audits"}
    names = re.findall(r"\{(\w+)(?::\w+)?\}", path)
    missing = [name for name in names if name not in parts]
    assert not missing, f"make a resource for {missing} of {path}"
    filled = re.sub(r"\{(\w+)(?::\w+)?\}", lambda match: parts[match[1]], path)
    answer = await client.get(filled, params={"id": "first"})
    assert answer.status_code == 404, f"{filled}: {answer.status_code}"
    assert not secrets & set(ID.findall(answer.text.replace(filled, "")))
