"""Valid requests for every route, ways to break them, and what a refusal must be."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.settings import Settings
from app.store.audits import WorkStatus
from app.store.base import Base
from app.store.identifiers import Prefix, format_id
from app.store.sessions import sync_engine
from app.store.tenants import Tenant
from tests.integration.rows import add_audit, add_ready_model

CANARY = "canary-7f3a9"
MAX_REQUEST = 20_000
OPEN = {"GET /healthz", "GET /readyz", "GET /metrics"}
NO_SUCH_UUID = "0" * 32


@dataclass(frozen=True)
class Case:
    """A valid request: what its key needs, its body, and the ids in its body that belong to the tenant."""

    scope: str
    body: dict[str, Any] | None = None
    owned: tuple[str, ...] = ()
    needs_key: bool = False
    lists: bool = False


@dataclass
class World:
    """A service with one model, text set and finished audit of a tenant, and clients of several kinds."""

    app: FastAPI
    database: psycopg.Connection
    capfd: pytest.CaptureFixture[str]
    ids: dict[str, str]
    writer: httpx.AsyncClient
    reader: httpx.AsyncClient
    editor: httpx.AsyncClient
    stranger: httpx.AsyncClient
    nobody: httpx.AsyncClient
    document: dict[str, Any]
    before: tuple[Any, ...] = field(default=())

    def path(self, route: str) -> str:
        return route.partition(" ")[2].format(**self.ids)

    def count_rows(self) -> tuple[Any, ...]:
        counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in Base.metadata.tables)
        states = "(SELECT string_agg(status, ',') FROM audits), (SELECT count(deleted_at) FROM text_sets)"
        row = self.database.execute(
            f"SELECT {counts}, {states}, (SELECT count(deleted_at) FROM language_models)"
        )
        return tuple(row.fetchone() or ())

    def assert_refused(self, route: str, response: httpx.Response, *statuses: int) -> None:
        assert response.status_code in statuses, response.text[:500]
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert {"type", "title", "status", "detail", "request_id"} <= problem.keys()
        assert problem["status"] == response.status_code
        assert problem["request_id"] == response.headers["x-request-id"]
        assert ("errors" in problem) == (response.status_code == 422)
        method, _, path = route.partition(" ")
        assert str(response.status_code) in self.document["paths"][path][method.lower()]["responses"]
        logged = self.capfd.readouterr()
        for place in (response.text, str(response.headers.raw), logged.out, logged.err):
            assert CANARY not in place
        assert problem["request_id"] in logged.out
        assert "unexpected_error" not in logged.out
        assert self.count_rows() == self.before


def cases(ids: dict[str, str]) -> dict[str, Case]:
    options = {
        "prefix_tokens": 5,
        "suffix_tokens": 5,
        "temperature": 0.5,
        "top_k": 7,
        "token_evidence": False,
    }
    measured = {"model": ids["model_id"], "metrics": ["nl", "extraction"], "options": options}
    source = {"type": "hub", "repo": f"acme/{CANARY}", "revision": "main"}
    metadata = {CANARY: {"deep": [CANARY]}}
    text = {"id": CANARY, "text": CANARY, "duplicates": 1, "group": CANARY, "member": True}
    text |= {"choices": [CANARY], "answer": 0, "metadata": metadata}
    read, write = "audit:read", "audit:write"
    return {
        "POST /v1/models": Case(write, {"source": source, "metadata": metadata}, needs_key=True),
        "GET /v1/models": Case(read, lists=True),
        "GET /v1/models/{model_id}": Case(read),
        "DELETE /v1/models/{model_id}": Case(write),
        "POST /v1/text-sets": Case(write, {"name": CANARY, "texts": [text], "metadata": metadata}),
        "GET /v1/text-sets": Case(read, lists=True),
        "GET /v1/text-sets/{text_set_id}": Case(read),
        "DELETE /v1/text-sets/{text_set_id}": Case(write),
        "GET /v1/text-sets/{text_set_id}/texts": Case(read, lists=True),
        "POST /v1/audits": Case(
            write,
            {**measured, "text_set": ids["text_set_id"], "metadata": metadata},
            owned=("model", "text_set"),
            needs_key=True,
        ),
        "GET /v1/audits": Case(read, lists=True),
        "GET /v1/audits/{audit_id}": Case(read),
        "POST /v1/audits/{audit_id}/cancel": Case(write),
        "GET /v1/audits/{audit_id}/events": Case(read),
        "GET /v1/audits/{audit_id}/scores": Case(read, lists=True),
        "GET /v1/audits/{audit_id}/scores/{text_id}/tokens": Case(read),
        "POST /v1/score": Case(write, {**measured, "texts": [text], "timeout": 0.5}, owned=("model",)),
    }


async def make_resources(client: httpx.AsyncClient, settings: Settings) -> dict[str, str]:
    texts = {"name": "texts", "texts": [{"id": "first", "text": "a"}, {"text": "b"}]}
    text_set_id = (await client.post("/v1/text-sets", json=texts)).json()["id"]
    audit = add_audit(settings, text_set_id, WorkStatus.SUCCEEDED)
    engine = sync_engine(settings.require_database_url())
    with Session(engine) as session, session.begin():
        tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()
        model_id = add_ready_model(session, tenant_id).id
    engine.dispose()
    return {
        "model_id": format_id(Prefix.LANGUAGE_MODEL, model_id),
        "text_set_id": text_set_id,
        "audit_id": format_id(Prefix.AUDIT, audit.id),
        "text_id": "first",
    }


async def send(
    world: World,
    route: str,
    client: httpx.AsyncClient,
    *,
    path: str | None = None,
    body: dict[str, Any] | bytes | None = None,
    headers: Mapping[str, str | bytes] | None = None,
    **options: Any,
) -> httpx.Response:
    """Send a route's valid request, with parts of it replaced."""
    case = cases(world.ids)[route]
    content = case.body if body is None else body
    if isinstance(content, dict):
        content = json.dumps(content).encode()
    sent = {"Content-Type": "application/json"} if content is not None else {}
    if case.needs_key:
        sent["Idempotency-Key"] = uuid4().hex
    return await client.request(
        route.partition(" ")[0],
        world.path(route) if path is None else path,
        content=content,
        headers=sent | (headers or {}),
        **options,
    )


def nodes(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every value inside a body with its path, but for what is the client's own."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield (*path, key), child
        if key != "metadata":
            yield from nodes(child, (*path, key))


def replaced(body: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(body)
    parent: Any = changed
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = value
    return changed


def of_other_types(value: Any) -> list[Any]:
    """Values of every JSON type but that of `value` (an id or a source may stand for each other)."""
    samples: list[Any] = [CANARY, 7, 7.5, True, [CANARY], {CANARY: CANARY}]
    kinds = (int, float) if isinstance(value, float) else type(value)
    return [
        s
        for s in samples
        if not isinstance(s, kinds) or (isinstance(s, bool) and not isinstance(value, bool))
    ]


def routes_with_bodies(world: World) -> dict[str, dict[str, Any]]:
    return {route: case.body for route, case in cases(world.ids).items() if case.body is not None}
