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

from app.contracts.tenants import SCOPES as ALL_SCOPES
from app.pages import install
from app.settings import Settings
from app.signing.keys import rotate_signing_key
from app.store.core.base import Base
from tests.http_api import client_of, make_key
from tests.integration.bad_requests import OPEN, Case, cases, make_resources, takes_key

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
