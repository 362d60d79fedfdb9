"""Bad input on every route: the documented problem, nothing of it repeated anywhere, nothing changed.

The requests are valid ones in which one thing is broken. A new route without a valid request in
`bad_requests` fails the first test.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.http.pagination import encode_cursor
from app.settings import Settings
from app.signing.keys import rotate_signing_key
from tests.http_api import client_of, make_key, running_app
from tests.integration.bad_requests import (
    CANARY,
    MAX_REQUEST,
    NO_SUCH_UUID,
    OPEN,
    World,
    cases,
    make_resources,
    nodes,
    of_other_types,
    preset_forms,
    replaced,
    requests_with_bodies,
    send,
    takes_key,
    wrong_clients,
)

BAD_CURSORS = (
    "",
    "x",
    "%00",
    "W10",
    "bnVsbA",
    "WzFdXQ",
    "WyJ4Il0",
    "W3RydWVd",
    "Wy0xXQ",
    "WzFlOTlk",
    CANARY,
    "é",
    encode_cursor("ordinal", None, 2**40),
    encode_cursor("ordinal", None, 2),
    encode_cursor("-nl", -1.0, 0),
    encode_cursor("ordinal", None, "0"),
    encode_cursor(2**40),
    encode_cursor(-1),
    encode_cursor("g" * 32),
    "A" * 501,
)
# Of these there may be so many.
LATE = {(route, encode_cursor(2**40)) for route in ("GET /v1/events", "GET /v1/trail")}
BAD_IDS = (CANARY, "%00", "%ff", "%20", "..%2f..", "mdl", "_", "txs_" + "g" * 32, "é" * 10, "x" * 3000)


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    keys = tmp_path_factory.mktemp("keys")
    rotate_signing_key(keys)
    return Settings(
        database_url=database_url,
        broker_url=broker_url,
        max_request_bytes=MAX_REQUEST,
        max_json_bytes=MAX_REQUEST,
        signing_keys=keys,
        wrong_keys_a_minute=100_000,
    )


@pytest.fixture
async def world(
    settings: Settings, database: psycopg.Connection, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> AsyncIterator[World]:
    all_scopes = ("audit:read", "audit:write", "edit:read", "edit:write")
    keys = {
        "writer": make_key(settings, scopes=(*all_scopes, "admin")),
        "reader": make_key(settings, scopes=("audit:read",)),
        "auditor": make_key(settings, scopes=("audit:read", "audit:write")),
        "editor": make_key(settings, scopes=("edit:read", "edit:write")),
        "edit_reader": make_key(settings, scopes=("edit:read",)),
        "stranger": make_key(settings, tenant="other", scopes=(*all_scopes, "keys:write", "trail:read")),
        "nobody": None,
    }
    async with running_app(settings) as app:
        clients = {name: client_of(app, key) for name, key in keys.items()}
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "config.json").write_text("{}")
        ids = await make_resources(clients["writer"], settings, tmp_path)
        world = World(app, database, capfd, ids, **clients, document=app.openapi())
        world.before = world.count_rows()
        yield world
        for client in clients.values():
            await client.aclose()


async def test_every_route_has_a_case(world: World) -> None:
    operations = {
        f"{method.upper()} {path}"
        for path, operations in world.document["paths"].items()
        for method in operations
    }
    assert operations == cases(world.ids).keys() | OPEN


async def test_the_requests_are_valid_until_something_is_broken(
    world: World, subtests: pytest.Subtests
) -> None:
    for route, case in cases(world.ids).items():
        if route.startswith("DELETE") or case.endless:
            continue
        with subtests.test(route=route):
            response = await send(world, route, world.writer)
            expected = (409,) if route.endswith("/cancel") else (200, 201, 202)
            assert response.status_code in ((case.answered,) if case.answered else expected), response.text
    for route, body in preset_forms(world.ids):
        with subtests.test(route=route, body=body):
            headers = {"Idempotency-Key": uuid4().hex}
            assert (await send(world, route, world.writer, body=body, headers=headers)).status_code == 202


async def test_the_deletions_are_valid_until_something_is_broken(world: World) -> None:
    for route, status in (
        ("DELETE /v1/models/{model_id}", 204),
        ("DELETE /v1/text-sets/{text_set_id}", 200),
        ("DELETE /v1/keys/{key_id}", 200),
    ):
        assert (await send(world, route, world.writer)).status_code == status


async def test_without_a_valid_key(world: World, subtests: pytest.Subtests) -> None:
    for route in cases(world.ids):
        for header in ({}, {"Authorization": f"Bearer {CANARY}"}, {"Authorization": f"Basic {CANARY}"}):
            with subtests.test(route=route, header=header):
                response = await send(world, route, world.nobody, headers=header)
                world.assert_refused(route, response, 401)
                assert response.headers["www-authenticate"] == "Bearer"


async def test_with_a_key_of_another_scope(world: World, subtests: pytest.Subtests) -> None:
    for route, case in cases(world.ids).items():
        for client in wrong_clients(world, case.scope):
            with subtests.test(route=route):
                world.assert_refused(route, await send(world, route, client), 403)


async def test_resources_of_another_tenant(world: World, subtests: pytest.Subtests) -> None:
    for route, case in cases(world.ids).items():
        # An operator's tenants are all of them.
        if (("{" in route and not case.shared) or case.owned) and case.scope != "admin":
            with subtests.test(route=route):
                world.assert_refused(route, await send(world, route, world.stranger), 404)


async def test_ids_that_name_nothing(world: World, subtests: pytest.Subtests) -> None:
    for route, case in cases(world.ids).items():
        for name, real in world.ids.items():
            if f"{{{name}}}" not in route:
                continue
            missing = real[:4] + NO_SUCH_UUID if "_" in real else "none"
            for bad in (*BAD_IDS, missing):
                with subtests.test(route=route, name=name, bad=bad[:30]):
                    path = world.path(route).replace(real, bad)
                    statuses = (404, 422) if name == "text_id" else (404,)
                    world.assert_refused(route, await send(world, route, world.writer, path=path), *statuses)
        for name in case.owned:
            for bad in (CANARY, "\0", "", "mdl_" + NO_SUCH_UUID, "txs_" + NO_SUCH_UUID, "x" * 101):
                with subtests.test(route=route, name=name, bad=bad[:30]):
                    body = replaced(case.body or {}, tuple(name.split(".")), bad)
                    world.assert_refused(route, await send(world, route, world.writer, body=body), 404, 422)


async def test_bodies_that_are_not_strict_json(world: World, subtests: pytest.Subtests) -> None:
    for route, body in requests_with_bodies(world):
        valid = json.dumps(body).encode()
        bad = {
            "cut short": valid[:-1],
            "not JSON": CANARY.encode(),
            "NaN": valid[:-1] + b',"x":NaN}',
            "infinity": valid[:-1] + b',"x":-Infinity}',
            "too large a number": valid[:-1] + b',"x":1e999}',
            "a name twice": json.dumps(dict([next(iter(body.items()))])).encode()[:-1] + b"," + valid[1:],
            "lone surrogate": valid[:-1] + b',"x":"\\ud800"}',
            "not UTF-8": valid[:-1] + b',"x":"\xff"}',
            "UTF-16": json.dumps(body).encode("utf-16"),
            "too deep": b"[" * 5000 + b"]" * 5000,
        }
        for name, content in bad.items():
            with subtests.test(route=route, bad=name):
                world.assert_refused(route, await send(world, route, world.writer, body=content), 400)


async def test_bodies_that_break_the_contract(world: World, subtests: pytest.Subtests) -> None:
    for route, body in requests_with_bodies(world):
        bad: dict[str, Any] = {"list": b"[]", "text": f'"{CANARY}"'.encode(), "number": b"7", "null": b"null"}
        bad["many extra fields"] = body | {f"{CANARY}{i}": i for i in range(500)}
        bad["extra field"] = body | {CANARY: CANARY}
        for path, value in nodes(body):
            if isinstance(value, dict) and path[-1] != "metadata":
                bad[f"extra field in {path}"] = replaced(body, path, value | {CANARY: CANARY})
            if isinstance(value, str):
                bad[f"NUL in {path}"] = replaced(body, path, f"{CANARY}\0")
            for other in of_other_types(value):
                bad[f"{type(other).__name__} for {path}"] = replaced(body, path, other)
        bad["NUL in metadata"] = body | {"metadata": {"x": [f"{CANARY}\0"]}}
        bad["large metadata"] = body | {"metadata": {"x": CANARY * 1400}}
        for name, content in bad.items():
            with subtests.test(route=route, bad=name):
                statuses = (404, 422) if name.startswith("NUL in") else (422,)
                world.assert_refused(route, await send(world, route, world.writer, body=content), *statuses)


async def test_required_fields_left_out(world: World, subtests: pytest.Subtests) -> None:
    required = {"source", "name", "texts", "model", "text_set", "kind", "models"}
    for route, body in requests_with_bodies(world):
        # The name of a set of a preset may be left out.
        # Nor does a policy of a template need one.
        # What is changed of a tenant may be anything.
        named = "preset" in body or "rules" in body or route.startswith("PATCH")
        optional = {"name"} if named else set()
        for name in (required - optional) & body.keys():
            with subtests.test(route=route, left_out=name):
                content = {key: value for key, value in body.items() if key != name}
                response = await send(world, route, world.writer, body=content)
                world.assert_refused(route, response, 422)
                # A preset could stand for it.
                either = {"pointer": "", "code": "text_set_or_preset"}
                audited = route == "POST /v1/audits" and name == "text_set"
                missing = either if audited else {"pointer": f"/{name}", "code": "missing"}
                assert response.json()["errors"] == [missing]


async def test_empty_and_oversized_bodies(world: World, subtests: pytest.Subtests) -> None:
    for route, body in requests_with_bodies(world):
        with subtests.test(route=route, body="empty"):
            world.assert_refused(route, await send(world, route, world.writer, body=b""), 400, 422)
        with subtests.test(route=route, body="too large"):
            content = json.dumps(body).encode().ljust(MAX_REQUEST + 1)
            world.assert_refused(route, await send(world, route, world.writer, body=content), 413)


async def test_bodies_of_another_type(world: World, subtests: pytest.Subtests) -> None:
    for route, _ in requests_with_bodies(world):
        for media_type in ("text/plain", "multipart/form-data; boundary=x", f"application/{CANARY}", ""):
            with subtests.test(route=route, media_type=media_type):
                response = await send(world, route, world.writer, headers={"Content-Type": media_type})
                world.assert_refused(route, response, 415, 422)


async def test_bad_cursors_and_limits(world: World, subtests: pytest.Subtests) -> None:
    for route, case in cases(world.ids).items():
        if not case.lists:
            continue
        bad = [f"cursor={cursor}" for cursor in BAD_CURSORS if (route, cursor) not in LATE]
        bad += [f"limit={limit}" for limit in ("0", "-1", "1001", "1.5", CANARY, "", "9" * 5000)]
        for query in bad:
            with subtests.test(route=route, query=query[:30]):
                path = f"{world.path(route)}?{query}"
                world.assert_refused(route, await send(world, route, world.writer, path=path), 422)


async def test_other_bad_parameters(world: World, subtests: pytest.Subtests) -> None:
    scores, audit = "GET /v1/audits/{audit_id}/scores", "GET /v1/audits/{audit_id}"
    bad = [(scores, f"sort={CANARY}"), (scores, "group=%00"), (scores, f"group={CANARY * 20}")]
    bad += [(audit, f"wait={wait}") for wait in ("-1", "61", "nan", "inf", CANARY)]
    for route, query in bad:
        with subtests.test(route=route, query=query[:30]):
            path = f"{world.path(route)}?{query}"
            world.assert_refused(route, await send(world, route, world.writer, path=path), 422)
    events = "GET /v1/audits/{audit_id}/events"
    response = await send(world, events, world.writer, headers={"Last-Event-ID": CANARY * 10})
    world.assert_refused(events, response, 422)


async def test_idempotency_keys(world: World, subtests: pytest.Subtests) -> None:
    for route, case in cases(world.ids).items():
        method, _, path = route.partition(" ")
        if case.body is None or not takes_key(world.document["paths"][path][method.lower()]):
            continue
        for bad in (f"{CANARY} {CANARY}", "x" * 256, "é"):
            with subtests.test(route=route, bad=bad[:30]):
                headers = {"Idempotency-Key": bad.encode()}
                world.assert_refused(route, await send(world, route, world.writer, headers=headers), 422)
        if case.needs_key:
            with subtests.test(route=route, bad="missing"):
                content = json.dumps(case.body).encode()
                headers = {"Content-Type": "application/json"}
                response = await world.writer.post(world.path(route), content=content, headers=headers)
                world.assert_refused(route, response, 400)


async def test_routes_that_do_not_exist(world: World) -> None:
    for method, path, status in (
        ("GET", f"/{CANARY}", 404),
        ("GET", f"/v1/{CANARY}?{CANARY}={CANARY}", 404),
        ("GET", "/v1/models/", 404),
        ("PATCH", "/v1/models", 405),
        ("BREW", f"/v1/models/{CANARY}", 405),
    ):
        response = await world.writer.request(method, path, content=CANARY.encode())
        if status == 405:
            documented = world.document["paths"][
                "/v1/models" if path == "/v1/models" else "/v1/models/{model_id}"
            ]
            assert {name.lower() for name in response.headers["allow"].split(", ")} == documented.keys()
        assert (response.status_code, response.json()["status"]) == (status, status)
        assert response.headers["content-type"] == "application/problem+json"
        assert CANARY not in response.text + str(response.headers.raw) + "".join(world.capfd.readouterr())


async def test_another_method_on_the_document_of_the_api(world: World) -> None:
    response = await world.writer.post("/openapi.json")
    assert (response.status_code, response.json()["status"]) == (405, 405)
    assert {"GET", "HEAD"} == set(response.headers["allow"].split(", "))
