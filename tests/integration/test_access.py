"""Tenants and keys over the API, and how soon a key that ended is refused."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session, sessionmaker

from app.embedded.owner_key import ensure_owner_key
from app.http import open_requests, principals
from app.settings import Settings
from app.signing.keys import rotate_signing_key
from app.store.api_keys import find_principal
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.core.sessions import sync_engine
from app.store.operations import OperationStatus
from app.store.tenants import ensure_tenant
from memaudit import AsyncClient, Conflict
from tests.command_line import invoke
from tests.http_api import client_of, make_key, running_app
from tests.integration.rows import add_audit, add_ready_model
from tests.live_service import PATIENCE

PROMISED_SECONDS = 5
# So that tests need not wait as long as the service: for how long a key is believed, and how often it is
# asked whether those of requests that last are still good.
BELIEVED, LOOK = 0.5, 0.2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (principals, open_requests):
        monkeypatch.setattr(module, "REMEMBERED_SECONDS", BELIEVED)
    monkeypatch.setattr(open_requests, "LOOK_SECONDS", LOOK)


def test_what_is_promised_of_the_end_of_a_key_leaves_two_seconds_for_a_slow_database() -> None:
    assert principals.REMEMBERED_SECONDS + open_requests.LOOK_SECONDS + 2 <= PROMISED_SECONDS


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    # No other level of logs: loggers keep that of the first application of a process, for all its tests.
    keys = tmp_path / "keys"
    return Settings(database_url=database_url, broker_url=broker_url, signing_keys=keys)


@pytest.fixture
async def operator(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, make_key(settings, tenant="operator", scopes=("admin",))) as client:
        yield client


async def make_tenant(operator: httpx.AsyncClient, name: str = "acme") -> str:
    made = await operator.post("/v1/tenants", json={"name": name})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def make_api_key(client: httpx.AsyncClient, tenant: str, **fields: Any) -> httpx.Response:
    body = {"name": "ci", "scopes": ["audit:read"]} | fields
    return await client.post(f"/v1/tenants/{tenant}/keys", json=body)


async def test_a_tenant_is_made_read_and_changed(operator: httpx.AsyncClient) -> None:
    tenant = await make_tenant(operator)
    assert (await operator.post("/v1/tenants", json={"name": "acme"})).status_code == 409
    other = await make_tenant(operator, "other")
    taken = await operator.patch(f"/v1/tenants/{other}", json={"name": "acme"})
    assert (taken.status_code, taken.json()["type"].rpartition("/")[2]) == (409, "tenant-name-taken")
    renamed = await operator.patch(f"/v1/tenants/{other}", json={"name": "renamed"})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "renamed")
    assert (await operator.get(f"/v1/tenants/{other}")).json() == renamed.json()
    names = [each["name"] for each in (await operator.get("/v1/tenants")).json()["data"]]
    assert names == ["renamed", "acme", "operator"]
    found = (await operator.get("/v1/tenants", params={"name": "acme"})).json()["data"]
    assert [each["id"] for each in found] == [tenant]
    assert found[0]["disabled"] is False


async def test_a_key_is_shown_once_and_kept_as_a_digest(
    operator: httpx.AsyncClient, app: FastAPI, database: psycopg.Connection
) -> None:
    tenant = await make_tenant(operator)
    made = await make_api_key(operator, tenant)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    key = made.json()["key"]
    listed = await operator.get(f"/v1/tenants/{tenant}/keys")
    (shown,) = listed.json()["data"]
    assert shown == {name: value for name, value in made.json().items() if name != "key"}
    assert key not in listed.text
    assert len(key) >= len("mak_") + 256 / 6
    rows = database.execute("SELECT row_to_json(api_keys)::text FROM api_keys").fetchall()
    assert all(key not in row and key[4:] not in row for (row,) in rows)
    async with client_of(app, key) as client:
        assert (await client.get("/v1/audits")).status_code == 200
        assert (await client.post("/v1/tenants", json={"name": "x"})).status_code == 403
    (used,) = (await operator.get(f"/v1/tenants/{tenant}/keys")).json()["data"]
    assert used["last_used_at"] is not None


async def test_a_rotation_has_two_keys_and_no_third(operator: httpx.AsyncClient) -> None:
    tenant = await make_tenant(operator)
    first, second = [(await make_api_key(operator, tenant)).json() for _ in range(2)]
    assert (await make_api_key(operator, tenant)).json()["type"].endswith("/too-many-keys")
    assert (await make_api_key(operator, tenant, name="another")).status_code == 201
    revoked = await operator.delete(f"/v1/keys/{first['id']}")
    assert revoked.json()["revoked_at"] is not None
    assert (await operator.delete(f"/v1/keys/{first['id']}")).json() == revoked.json()
    assert (await make_api_key(operator, tenant)).status_code == 201
    listed = (await operator.get(f"/v1/tenants/{tenant}/keys")).json()["data"]
    assert [each["revoked_at"] for each in listed if each["id"] == second["id"]] == [None]


async def test_of_rotations_at_once_two_keys_are_left(operator: httpx.AsyncClient) -> None:
    tenant = await make_tenant(operator)
    made = await asyncio.gather(*(make_api_key(operator, tenant) for _ in range(6)))
    assert sorted(each.status_code for each in made) == [201, 201, 409, 409, 409, 409]


async def test_a_tenants_own_keys_are_administered_by_it_up_to_what_it_may_do(
    operator: httpx.AsyncClient, app: FastAPI
) -> None:
    tenant, other = await make_tenant(operator), await make_tenant(operator, "other")
    theirs = (await make_api_key(operator, other)).json()["id"]
    wide = (await make_api_key(operator, tenant, name="wide", scopes=["admin"])).json()["id"]
    own = (await make_api_key(operator, tenant, scopes=["keys:write", "audit:read"])).json()
    async with client_of(app, own["key"]) as client:
        assert [each["id"] for each in (await client.get("/v1/tenants")).json()["data"]] == [tenant]
        assert (await client.get(f"/v1/tenants/{tenant}")).status_code == 200
        assert (await client.patch(f"/v1/tenants/{tenant}", json={})).status_code == 403
        for path in (f"/v1/tenants/{other}", f"/v1/tenants/{other}/keys"):
            assert (await client.get(path)).status_code == 404
        assert (await make_api_key(client, other)).status_code == 404
        assert (await client.delete(f"/v1/keys/{theirs}")).status_code == 404
        assert (await client.delete(f"/v1/keys/{wide}")).status_code == 403
        assert (await make_api_key(client, tenant, scopes=["audit:write"])).status_code == 403
        made = await make_api_key(client, tenant)
        assert made.status_code == 201
        assert (await client.delete(f"/v1/keys/{made.json()['id']}")).status_code == 200


async def test_a_key_ends_at_its_time(
    operator: httpx.AsyncClient, app: FastAPI, database: psycopg.Connection
) -> None:
    tenant = await make_tenant(operator)
    for wrong in (
        "yesterday",
        "2020-01-01T00:00:00Z",
        "2099-01-01",
        "2099-01-01T00:00:00",
        4102444800,
        "9" * 99,
    ):
        assert (await make_api_key(operator, tenant, expires_at=wrong)).status_code == 422
    until_then = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = (await make_api_key(operator, tenant, expires_at=until_then)).json()
    assert datetime.fromisoformat(made["expires_at"]) == datetime.fromisoformat(until_then)
    database.execute(
        "UPDATE api_keys SET expires_at = now() WHERE id = %s", (parse_id(Prefix.API_KEY, made["id"]),)
    )
    async with client_of(app, made["key"]) as client:
        assert (await client.get("/v1/audits")).status_code == 401
    # One that ended leaves room for its successors.
    assert [(await make_api_key(operator, tenant)).status_code for _ in range(3)] == [201, 201, 409]


async def test_without_a_key_no_body_is_waited_for(app: FastAPI) -> None:
    async def endless() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    async with client_of(app) as client:
        same = (await client.get("/v1/audits")).json() | {"request_id": ""}
        for sent in (None, "", "Bearer", "Bearer ", "Basic a2V5", "mak_key"):
            headers = {} if sent is None else {"Authorization": sent}
            for path in ("/v1/audits", "/v1/score", "/v1/text-sets"):
                refused = await client.post(path, content=endless(), headers=headers)
                assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
                assert refused.json() | {"request_id": ""} == same


async def test_a_key_makes_none_that_lasts_longer(operator: httpx.AsyncClient, app: FastAPI) -> None:
    tenant = await make_tenant(operator)
    now = datetime.now(UTC)
    end, later = (now + timedelta(hours=1)).isoformat(), (now + timedelta(hours=2)).isoformat()
    for scopes, like in (
        (["keys:write", "audit:read"], ["audit:read"]),
        (["admin"], ["admin", "audit:read"]),
    ):
        made = (await make_api_key(operator, tenant, name="maker", scopes=scopes, expires_at=end)).json()
        async with client_of(app, made["key"]) as client:
            for wrong in (later, None):
                refused = await make_api_key(client, tenant, scopes=like, expires_at=wrong)
                assert refused.status_code == 422
                assert refused.json()["errors"] == [{"pointer": "/expires_at", "code": "outlasts_its_maker"}]
            kept = await make_api_key(client, tenant, name=f"of {scopes}", scopes=like, expires_at=end)
            assert kept.status_code == 201
            if "admin" in scopes:  # who provides for others does not do it for itself
                assert (await make_api_key(client, tenant, expires_at=later)).status_code == 201


async def test_a_disabled_tenant_is_refused_until_it_is_enabled(
    operator: httpx.AsyncClient, app: FastAPI, settings: Settings
) -> None:
    tenant = await make_tenant(operator)
    async with client_of(app, make_key(settings)) as client:
        assert (await client.get("/v1/audits")).status_code == 200
        disabled = await operator.patch(f"/v1/tenants/{tenant}", json={"disabled": True})
        assert disabled.json()["disabled_at"] is not None
        assert (await client.get("/v1/audits")).status_code == 401
        assert (await operator.patch(f"/v1/tenants/{tenant}", json={"disabled": False})).status_code == 200
        assert (await client.get("/v1/audits")).status_code == 200
    own = (await operator.get("/v1/tenants", params={"name": "operator"})).json()["data"][0]["id"]
    refused = await operator.patch(f"/v1/tenants/{own}", json={"disabled": True})
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (409, "own-tenant")


async def test_a_key_revoked_elsewhere_is_refused_within_seconds_and_a_page_session_with_it(
    app: FastAPI, settings: Settings, database: psycopg.Connection
) -> None:
    key = make_key(settings)
    async with client_of(app, key) as client, client_of(app) as browser:
        browser.headers["Origin"] = "http://memaudit"
        assert (await browser.post("/sign-in", data={"key": key})).status_code == 303
        assert (await client.get("/v1/audits")).status_code == 200
        assert (await browser.get("/audits")).status_code == 200
        database.execute("UPDATE api_keys SET revoked_at = now()")
        began = time.monotonic()
        while (await client.get("/v1/audits")).status_code != 401 or (
            await browser.get("/audits")
        ).status_code != 303:
            assert time.monotonic() - began < PROMISED_SECONDS
            await asyncio.sleep(0.05)


async def test_asking_often_looks_a_key_up_once(
    client: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    find = principals.find_principal

    def counting(*arguments: Any) -> Any:
        looked_up.append(1)
        return find(*arguments)

    monkeypatch.setitem(principals._FIND, principals.Kind.API_KEY, counting)
    for _ in range(20):
        assert (await client.get("/v1/policy-templates")).status_code == 200
    assert len(looked_up) == 1


@pytest.mark.usefixtures("quick")
async def test_what_is_open_ends_with_its_key(
    remote: httpx.AsyncClient, client: httpx.AsyncClient, settings: Settings, database: psycopg.Connection
) -> None:
    """An event stream breaks off, a long poll is answered 401; what another key has open goes on."""
    text_set = await client.post("/v1/text-sets", json={"name": "texts", "texts": [{"text": "a"}]})
    audit = format_id(Prefix.AUDIT, add_audit(settings, text_set.json()["id"], OperationStatus.RUNNING).id)
    other = {"Authorization": f"Bearer {make_key(settings)}"}
    seen: list[str] = []

    async def follow() -> None:
        async with remote.stream("GET", f"/v1/audits/{audit}/events", timeout=PATIENCE) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                seen.append(line)  # noqa: PERF401 - each as it comes

    async def poll(headers: dict[str, str], seconds: int) -> httpx.Response:
        path = f"/v1/audits/{audit}?wait={seconds}"
        return await remote.get(path, headers=headers, timeout=PATIENCE)

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(_broken_off(follow()))
        polling = tasks.create_task(poll({}, 60))
        spared = tasks.create_task(poll(other, 2))
        await until_async(lambda: bool(seen))
        own = client.headers["Authorization"][-4:]
        ended = database.execute("UPDATE api_keys SET revoked_at = now() WHERE hint = %s", (own,))
        assert ended.rowcount == 1
        began = time.monotonic()
        assert await following
        assert (await polling).status_code == 401
        assert (await polling).json()["type"].endswith("/unauthorized")
        assert time.monotonic() - began < PROMISED_SECONDS
    assert spared.result().status_code == 200


async def _broken_off(stream: Coroutine[None, None, None]) -> bool:
    try:
        await stream
    except httpx.RemoteProtocolError:
        return True
    return False


async def until_async(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the other side has no event for it
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick")
async def test_what_was_waited_for_is_not_given_to_a_key_that_ended_meanwhile(
    client: httpx.AsyncClient, settings: Settings, database: psycopg.Connection
) -> None:
    engine = sync_engine(settings.require_database_url())
    with Session(engine) as session, session.begin():
        model = add_ready_model(session, ensure_tenant(session, "acme"))
        model_id = format_id(Prefix.LANGUAGE_MODEL, model.id)
    engine.dispose()
    assert (await client.get("/v1/audits")).status_code == 200  # its use is noted, so that no row is locked
    waits = principals.REMEMBERED_SECONDS + 0.5
    body = {"model": model_id, "texts": [{"text": "a"}], "metrics": ["nl"], "timeout": waits}
    async with asyncio.TaskGroup() as tasks:
        scoring = tasks.create_task(client.post("/v1/score", json=body))
        await asyncio.to_thread(database.execute, "UPDATE api_keys SET revoked_at = now()")
    assert scoring.result().status_code == 401


@pytest.mark.usefixtures("quick")
async def test_an_upload_is_not_stored_when_its_key_ends_meanwhile(
    remote: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"text":"a"}\n'
        database.execute("UPDATE api_keys SET revoked_at = now()")
        await asyncio.sleep(principals.REMEMBERED_SECONDS + 0.1)
        yield b'{"text":"b"}\n'

    headers = {"Content-Type": "application/jsonl"}
    answer = await remote.post("/v1/text-sets?name=late", content=body(), headers=headers)
    assert answer.status_code == 401
    assert database.execute("SELECT count(*) FROM text_sets").fetchone() == (0,)


async def test_wrong_keys_are_counted_by_their_address_and_lock_nobody_out(
    database_url: str, broker_url: str
) -> None:
    few = Settings(database_url=database_url, broker_url=broker_url, wrong_keys_a_minute=3)
    async with running_app(few) as app, client_of(app, make_key(few)) as client, client_of(app) as wrong:
        assert (await client.get("/v1/audits")).status_code == 200
        headers = {"Authorization": "Bearer mak_wrong"}
        statuses = [(await wrong.get("/v1/audits", headers=headers)).status_code for _ in range(4)]
        assert statuses == [401, 401, 401, 429]
        refused = await wrong.get("/v1/audits", headers=headers)
        assert refused.json()["type"].endswith("/too-many-wrong-keys")
        assert 0 < int(refused.headers["retry-after"]) <= 20
        wrong.headers["Origin"] = "http://memaudit"
        assert (await wrong.post("/sign-in", data={"key": "mak_wrong"})).status_code == 429
        assert (await client.get("/v1/audits")).status_code == 200
        elsewhere = httpx.ASGITransport(app=app, client=("10.0.0.7", 1))
        async with httpx.AsyncClient(transport=elsewhere, base_url="http://memaudit") as other:
            assert (await other.get("/v1/audits", headers=headers)).status_code == 401


async def test_the_client_administers_tenants_and_reads_the_trail(
    remote: httpx.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    key = make_key(settings, tenant="operator", scopes=("admin",))
    async with AsyncClient(str(remote.base_url), key) as operator:
        tenant = await operator.tenants.create(name="wonderland")
        with pytest.raises(Conflict):
            await operator.tenants.create(name="wonderland")
        made = await operator.tenants.create_key(tenant.id, name="ci", scopes=["keys:write", "trail:read"])
        assert (await operator.tenants.change(tenant.id, disabled=False)).name == "wonderland"
        async with AsyncClient(str(remote.base_url), made.key) as client:
            assert [each.id async for each in client.tenants.list()] == [tenant.id]
            assert [each.ends_in async for each in client.tenants.list_keys(tenant.id)] == [made.key[-4:]]
            told: list[str] = []
            while not told:
                told = [each.action async for each in client.trail.list()]
        assert told[:2] == ["tenant.created", "key.created"]
        await operator.trail.save(tmp_path / "trail.jsonl", tenant=tenant.id)
        assert len((tmp_path / "trail.jsonl").read_text().splitlines()) >= len(told)
        assert (await operator.tenants.revoke_key(made.id)).revoked_at is not None


async def test_commands_administer_tenants_and_keep_the_trail(
    remote: httpx.AsyncClient, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate_signing_key(settings.signing_keys_directory)
    monkeypatch.setenv("MEMAUDIT_SIGNING_KEYS", str(settings.signing_keys_directory))
    monkeypatch.setenv("MEMAUDIT_DATABASE_URL", settings.require_database_url())
    monkeypatch.setenv("MEMAUDIT_URL", str(remote.base_url))
    monkeypatch.setenv("MEMAUDIT_API_KEY", make_key(settings, tenant="operator", scopes=("admin",)))

    async def memaudit(*arguments: str) -> str:
        done = await asyncio.to_thread(invoke, *arguments)
        assert done.exit_code == 0, done.output
        # The service logs to the same output here, whenever it has something to say.
        said = [line for line in done.stdout.splitlines() if '"event": "' not in line]
        return "\n".join(said).strip()

    tenant = json.loads(await memaudit("tenants", "create", "wonderland", "--json"))["id"]
    wanted = ("--name", "ci", "--scope", "audit:read", "--days", "7")
    made = json.loads(await memaudit("tenants", "add-key", tenant, *wanted, "--json"))
    assert datetime.fromisoformat(made["expires_at"]) > datetime.now(UTC) + timedelta(days=6)
    assert made["ends_in"] in await memaudit("tenants", "keys", tenant)
    assert await memaudit("tenants", "revoke-key", made["id"]) == "Revoked."
    assert "disabled" in await memaudit("tenants", "disable", tenant)
    assert "wonderland" in await memaudit("tenants", "list")
    assert "disabled" not in await memaudit("tenants", "enable", tenant)
    head, export = tmp_path / "head.json", tmp_path / "trail.jsonl"
    while not json.loads(await memaudit("trail", "verify", "--json"))["entries"]:
        pass
    await memaudit("trail", "head", str(head))
    await memaudit("trail", "export", str(export))
    assert "whole" in await memaudit("trail", "verify", str(export), "--head", str(head))
    refused = await asyncio.to_thread(
        invoke, "tenants", "add-key", tenant, "--name", "x", "--scope", "audit:everything"
    )
    assert (refused.exit_code, "audit:everything" not in refused.stderr) == (2, True)


def test_the_owner_whose_key_file_is_lost_gets_a_new_key_and_the_lost_one_ends(
    settings: Settings, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    at_home = settings.model_copy(update={"home": tmp_path})
    keys = []
    for _ in range(4):
        path = ensure_owner_key(at_home)
        keys.append(path.read_text().strip())
        assert ensure_owner_key(at_home).read_text().strip() == keys[-1]
        path.unlink()
    with sessions.begin() as session:
        assert [find_principal(session, key) is not None for key in keys] == [False, False, False, True]
