"""Valid requests for every route, ways to break them, and what a refusal must be."""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.settings import Settings
from app.store.api_keys import create_key
from app.store.core.base import Base
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine
from app.store.operations import OperationStatus
from app.store.tenants import Tenant
from tests.artifacts import make_artifact
from tests.integration.rows import add_audit, add_edit, add_ready_model, add_study

CANARY = "canary-7f3a9"
# Nothing is sent to a name that does not exist.
RECEIVER = f"https://{CANARY}.invalid/"
MAX_REQUEST = 20_000
OPEN = {"GET /healthz", "GET /readyz", "GET /metrics", "GET /.well-known/memaudit-keys.json"}
NO_SUCH_UUID = "0" * 32


@dataclass(frozen=True)
class Case:
    """A valid request: what its key needs, its body, and where ids stand in it that belong to the tenant.

    What is `shared` belongs to no tenant. The valid request is answered with
    `answered`, where that is known; what is `endless` is answered for as long as the client listens.
    """

    scope: str
    body: dict[str, Any] | None = None
    owned: tuple[str, ...] = ()
    needs_key: bool = False
    lists: bool = False
    shared: bool = False
    answered: int | None = None
    endless: bool = False


@dataclass
class World:
    """A service with one model, text set and finished audit of a tenant, and clients of several kinds."""

    app: FastAPI
    database: psycopg.Connection
    capfd: pytest.CaptureFixture[str]
    ids: dict[str, str]
    writer: httpx.AsyncClient
    reader: httpx.AsyncClient
    auditor: httpx.AsyncClient
    editor: httpx.AsyncClient
    edit_reader: httpx.AsyncClient
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
            f"SELECT {counts}, {states}, (SELECT count(deleted_at) FROM language_models), "
            "(SELECT count(deleted_at) FROM artifacts)"
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


def takes_key(operation: Mapping[str, Any]) -> bool:
    """Whether an operation of the OpenAPI document has a use for an `Idempotency-Key`."""
    return any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", []))


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
    repository = "/api/models/{tenant}/{name}"
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
        # There is one once the set was erased.
        "GET /v1/text-sets/{text_set_id}/receipt": Case(read, answered=404),
        "GET /v1/presets": Case(read, shared=True),
        "GET /v1/presets/{family}/{preset}": Case(read, shared=True),
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
        "GET /v1/artifacts": Case("edit:read", lists=True),
        "GET /v1/artifacts/{artifact_id}": Case("edit:read"),
        "DELETE /v1/artifacts/{artifact_id}": Case("edit:write"),
        "GET /v1/artifacts/{artifact_id}/files/{path}": Case("edit:read"),
        "GET /v1/artifacts/{artifact_id}/archive.tar": Case("edit:read"),
        f"GET {repository}": Case("edit:read"),
        f"GET {repository}/revision/{{revision}}": Case("edit:read"),
        f"GET {repository}/tree/{{revision}}": Case("edit:read"),
        f"GET {repository}/tree/{{revision}}/{{folder}}": Case("edit:read"),
        "GET /{tenant}/{name}/resolve/{revision}/{path}": Case("edit:read"),
        "POST /v1/edits": Case(
            "edit:write",
            edit_request(ids) | {"metadata": metadata},
            owned=("model", "calibration_text_set", "forget_text_set", "evaluation.reference_model"),
            needs_key=True,
        ),
        "GET /v1/edits": Case("edit:read", lists=True),
        "GET /v1/edits/{edit_id}": Case("edit:read"),
        "POST /v1/edits/{edit_id}/cancel": Case("edit:write"),
        "GET /v1/edits/{edit_id}/events": Case("edit:read"),
        "POST /v1/studies": Case(
            write,
            study_request(ids) | {"options": options, "metadata": metadata},
            owned=("text_set", "control_text_set"),
            needs_key=True,
        ),
        "GET /v1/studies": Case(read, lists=True),
        "GET /v1/studies/{study_id}": Case(read),
        "POST /v1/studies/{study_id}/cancel": Case(write),
        "GET /v1/studies/{study_id}/events": Case(read),
        "GET /v1/studies/{study_id}/texts": Case(read, lists=True),
        "POST /v1/policies": Case(write, policy_request() | {"metadata": metadata}, needs_key=True),
        "GET /v1/policies": Case(read, lists=True),
        "GET /v1/policies/{policy_id}": Case(read),
        "GET /v1/policy-templates": Case(read, shared=True),
        "POST /v1/gates": Case(
            write,
            {"policy": ids["policy_id"], "audit": ids["audit_id"], "metadata": metadata},
            owned=("policy", "audit"),
            needs_key=True,
        ),
        "GET /v1/gates": Case(read, lists=True),
        "GET /v1/gates/{gate_id}": Case(read),
        "POST /v1/gates/{gate_id}/cancel": Case(write),
        "GET /v1/gates/{gate_id}/events": Case(read),
        "POST /v1/model-lines": Case(
            write,
            line_request(ids, CANARY) | {"metadata": metadata},
            owned=("checks",),
            needs_key=True,
        ),
        "GET /v1/model-lines": Case(read, lists=True),
        "GET /v1/model-lines/{line_id}": Case(read),
        "GET /v1/model-lines/{line_id}/events": Case(read, endless=True),
        "POST /v1/model-lines/{line_id}/versions": Case(
            write,
            {"model": ids["model_id"], "label": CANARY, "metadata": metadata},
            owned=("model",),
            needs_key=True,
        ),
        "GET /v1/model-lines/{line_id}/versions": Case(read, lists=True),
        "GET /v1/model-versions/{version_id}": Case(read),
        "GET /v1/model-versions/{version_id}/diff": Case(read, answered=409),
        "GET /v1/model-versions/{version_id}/events": Case(read),
        "POST /v1/model-versions/{version_id}/cancel": Case(write),
        "GET /v1/events": Case(read, lists=True),
        "POST /v1/webhooks": Case(
            write,
            {"url": RECEIVER, "event_types": ["audit.failed"], "description": CANARY, "metadata": metadata},
            needs_key=True,
        ),
        "GET /v1/webhooks": Case(read, lists=True),
        "GET /v1/webhooks/{webhook_id}": Case(read),
        "PATCH /v1/webhooks/{webhook_id}": Case(
            write,
            {"url": RECEIVER, "description": CANARY, "enabled": False, "metadata": metadata},
        ),
        "DELETE /v1/webhooks/{webhook_id}": Case(write),
        "POST /v1/webhooks/{webhook_id}/rotate-secret": Case(write, {"overlap_seconds": 60}),
        "POST /v1/webhooks/{webhook_id}/test": Case(write, answered=409),
        "GET /v1/webhooks/{webhook_id}/deliveries": Case(read, lists=True),
        "GET /v1/webhooks/{webhook_id}/deliveries/{delivery_id}": Case(read),
        "POST /v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay": Case(write, answered=409),
        "POST /v1/webhooks/{webhook_id}/replay": Case(write, {"since": "2026-01-01T00:00:00Z"}, answered=409),
        "GET /v1/usage": Case(read, shared=True),
        "GET /v1/audits/{audit_id}/evidence": Case(read),
        "GET /v1/audits/{audit_id}/evidence/{format}": Case(read),
        "GET /v1/studies/{study_id}/evidence": Case(read),
        "GET /v1/studies/{study_id}/evidence/{format}": Case(read),
        "GET /v1/edits/{edit_id}/evidence": Case("edit:read"),
        "GET /v1/edits/{edit_id}/evidence/{format}": Case("edit:read", answered=409),
        "GET /v1/gates/{gate_id}/evidence": Case(read),
        "GET /v1/gates/{gate_id}/evidence/{format}": Case(read, answered=409),
        "POST /v1/tenants": Case("admin", {"name": CANARY, "quotas": {}, "retention": {}}),
        "GET /v1/tenants": Case("keys:write", lists=True),
        "GET /v1/tenants/{tenant_id}": Case("keys:write"),
        "PATCH /v1/tenants/{tenant_id}": Case(
            "admin", {"name": "acme", "quotas": {}, "retention": {}, "disabled": False}
        ),
        "POST /v1/tenants/{tenant_id}/keys": Case(
            "keys:write",
            {"name": CANARY, "scopes": ["audit:read"], "expires_at": "2099-01-01T00:00:00Z"},
        ),
        "GET /v1/tenants/{tenant_id}/keys": Case("keys:write", lists=True),
        "DELETE /v1/keys/{key_id}": Case("keys:write"),
        "GET /v1/trail": Case("trail:read", lists=True),
        "GET /v1/trail/head": Case("admin", shared=True),
        "POST /v1/score": Case(write, {**measured, "texts": [text], "timeout": 0.5}, owned=("model",)),
    }


def preset_forms(ids: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """The routes that take a preset instead of texts, with a valid request each."""
    preset = {"preset": f"{ids['family']}/{ids['preset']}"}
    return [
        ("POST /v1/text-sets", preset | {"name": CANARY}),
        ("POST /v1/audits", preset | {"model": ids["model_id"]}),
    ]


def study_request(ids: dict[str, str]) -> dict[str, Any]:
    """A valid study."""
    models = [{"model": ids[name], "label": name} for name in ("model_id", "second_model_id")]
    return {
        "name": CANARY,
        "kind": "release",
        "models": models,
        "text_set": ids["text_set_id"],
        "control_text_set": ids["control_text_set_id"],
        "metrics": ["nl"],
    }


def policy_request() -> dict[str, Any]:
    """A valid policy with rules of several kinds."""
    rules = [
        {"kind": "rate", "metric": "strict", "at_most": 0.1, "confidence": 0.95, "groups": CANARY},
        {"kind": "probabilistic_extraction", "probability": 0.5, "samples": 1000},
        {"kind": "equivalent_duplicates", "at_most": 2.5},
    ]
    return {"name": CANARY, "description": CANARY, "rules": rules}


def line_request(ids: dict[str, str], name: str) -> dict[str, Any]:
    """A valid model line."""
    check = {
        "text_set": ids["text_set_id"],
        "control_text_set": ids["control_text_set_id"],
        "policies": [ids["policy_id"]],
        "metrics": ["nl"],
    }
    return {"name": name, "description": CANARY, "checks": [check]}


def edit_request(ids: dict[str, str]) -> dict[str, Any]:
    """A valid edit with every part that a K-FAC edit can have."""
    text_set = ids["text_set_id"]
    roles = ("memorized", "control", "clean", "items")
    return {
        "model": ids["model_id"],
        "method": "kfac",
        "name": CANARY,
        "calibration_text_set": text_set,
        "forget_text_set": text_set,
        "retain_text_set": ids["control_text_set_id"],
        "retain_weight": 0.1,
        "recovery": {"steps": 3, "rank": 4, "learning_rate": 0.02},
        "layers": [0],
        "projections": ["gate", "up"],
        "keep_mass": 0.8,
        "labels": "gold",
        "calibration_tokens": 1000,
        "block_tokens": 64,
        "seed": 3,
        "dtype": "float32",
        "sweep": {
            "layers": [[0], [1]],
            "keep_mass": [0.6, 0.8],
            "projections": [["up"]],
            "retain_weight": [0, 0.1],
            "recovery_steps": [0, 3],
        },
        "constraint": {"max_perplexity_increase": 0.1, "max_nl_drop": 0.2},
        "evaluation": {
            **{f"{role}_text_set": text_set for role in roles},
            "prefix_tokens": 5,
            "suffix_tokens": 5,
            "stress": True,
            "reference_model": ids["second_model_id"],
            "limits": {
                "max_strict": 0.1,
                "max_perplexity_increase": 0.1,
                "min_ndcg": 0.9,
                "max_auc_distance": 0.1,
            },
        },
    }


def wrong_clients(world: World, scope: str) -> list[httpx.AsyncClient]:
    """Clients whose keys lack a scope."""
    if scope.startswith("audit:"):
        return [world.editor] if scope == "audit:read" else [world.editor, world.reader]
    return [world.auditor] if scope == "edit:read" else [world.auditor, world.edit_reader]


async def make_resources(client: httpx.AsyncClient, settings: Settings, directory: Path) -> dict[str, str]:
    texts = {"name": "texts", "texts": [{"id": "first", "text": "a"}, {"text": "b"}]}
    text_set_id = (await client.post("/v1/text-sets", json=texts)).json()["id"]
    controls = {"name": "controls", "texts": [{"text": "c"}]}
    control_text_set_id = (await client.post("/v1/text-sets", json=controls)).json()["id"]
    audit = add_audit(settings, text_set_id, OperationStatus.SUCCEEDED)
    engine = sync_engine(settings.require_database_url())
    with Session(engine) as session, session.begin():
        tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()
        key_id = create_key(session, tenant_id, name="other", scopes=["audit:read"])[0].id
        model_id = add_ready_model(session, tenant_id).id
        second_model_id = add_ready_model(session, tenant_id, digest="f" * 64).id
        edit_id = add_edit(session, tenant_id, OperationStatus.CANCELLED).id
        study_id = add_study(session, audit, OperationStatus.SUCCEEDED).id
    engine.dispose()
    artifact = make_artifact(settings.require_database_url(), directory, name="edited")
    ids = {
        "model_id": format_id(Prefix.LANGUAGE_MODEL, model_id),
        "text_set_id": text_set_id,
        "audit_id": format_id(Prefix.AUDIT, audit.id),
        "text_id": "first",
        "second_model_id": format_id(Prefix.LANGUAGE_MODEL, second_model_id),
        "control_text_set_id": control_text_set_id,
        "study_id": format_id(Prefix.STUDY, study_id),
        "artifact_id": format_id(Prefix.ARTIFACT, artifact.id),
        "edit_id": format_id(Prefix.EDIT, edit_id),
        "tenant": "acme",
        "name": "edited",
        "revision": "main",
        "path": "config.json",
        "folder": "sub",
        "family": "hubble",
        "preset": "wikipedia",
        "format": "junit",
        "tenant_id": format_id(Prefix.TENANT, tenant_id),
        "key_id": format_id(Prefix.API_KEY, key_id),
    }
    return ids | await _make_judged_resources(client, ids)


async def _make_judged_resources(client: httpx.AsyncClient, ids: dict[str, str]) -> dict[str, str]:
    """A policy, and a gate and a version of a model line that were cancelled."""

    async def made(path: str, body: dict[str, Any]) -> str:
        answer = await client.post(path, json=body, headers={"Idempotency-Key": uuid4().hex})
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    ids = ids | {"policy_id": await made("/v1/policies", policy_request() | {"name": "other"})}
    gate_id = await made("/v1/gates", {"policy": ids["policy_id"], "audit": ids["audit_id"]})
    line_id = await made("/v1/model-lines", line_request(ids, "other"))
    version = {"model": ids["second_model_id"], "label": "other"}
    version_id = await made(f"/v1/model-lines/{line_id}/versions", version)
    for path in (f"/v1/gates/{gate_id}", f"/v1/model-versions/{version_id}"):
        assert (await client.post(f"{path}/cancel")).status_code == 202
    judged = {"gate_id": gate_id, "line_id": line_id, "version_id": version_id}
    return judged | {"policy_id": ids["policy_id"], **await _make_webhook(client)}


async def _make_webhook(client: httpx.AsyncClient) -> dict[str, str]:
    """A webhook that is disabled, so that nothing changes by itself, and what waits to be sent to it."""
    key = {"Idempotency-Key": uuid4().hex}
    webhook = (await client.post("/v1/webhooks", json={"url": RECEIVER}, headers=key)).json()["id"]
    delivery = (await client.post(f"/v1/webhooks/{webhook}/test")).json()["id"]
    disabled = await client.patch(f"/v1/webhooks/{webhook}", json={"enabled": False})
    assert disabled.is_success, disabled.text
    return {"webhook_id": webhook, "delivery_id": delivery}


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


def requests_with_bodies(world: World) -> list[tuple[str, dict[str, Any]]]:
    """Routes with a valid body; one that takes several forms comes once for each."""
    bodies = [(route, case.body) for route, case in cases(world.ids).items() if case.body is not None]
    return bodies + preset_forms(world.ids)
