"""Erasure leaves a receipt that anybody can verify; what a tenant keeps no longer is erased by itself."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app import main
from app.evidence.verification import verify
from app.maintenance.retention import expire
from app.settings import Settings
from app.signing.keys import read_signing_keys, rotate_signing_key
from app.store.core.identifiers import Prefix, parse_id
from app.store.core.sessions import TimeLimits
from app.store.data_keys import TextSetKey
from app.store.edits import EditTextSet
from app.store.erasure_receipts import ErasureReceipt
from app.store.events import Event
from app.store.operations import OperationStatus
from app.store.tenants import Tenant
from app.store.text_sets import TextSet
from app.store.texts import TextRow
from app.store.token_evidence import TokenEvidence
from app.store.trail import SERVICE, Action, TrailEntry
from app.store.webhook_deliveries import WebhookDelivery
from app.store.webhooks import Webhook
from tests.http_api import client_of, make_key, running_app
from tests.integration.rows import add_audit, add_edit

OLD = "clock_timestamp() - make_interval(days => 31)"


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, broker_url=broker_url, signing_keys=tmp_path / "signing-keys")


@pytest.fixture
def keys(settings: Settings) -> Path:
    rotate_signing_key(settings.signing_keys_directory)
    return settings.signing_keys_directory


async def upload(client: httpx.AsyncClient, count: int = 3) -> dict[str, Any]:
    texts = [{"text": f"text {number}"} for number in range(count)]
    made = await client.post("/v1/text-sets", json={"name": "set", "texts": texts})
    assert made.status_code == 201, made.text
    return dict(made.json())


async def test_a_receipt_says_what_was_erased_and_is_verified_without_the_service(
    client: httpx.AsyncClient, settings: Settings, keys: Path, tmp_path: Path
) -> None:
    text_set = await upload(client)
    add_audit(settings, text_set["id"], OperationStatus.SUCCEEDED)
    path = f"/v1/text-sets/{text_set['id']}"
    assert (await client.get(f"{path}/receipt")).status_code == 404, "it is not erased yet"
    answer = (await client.delete(path)).json()
    document = (await client.get(f"{path}/receipt")).content
    assert orjson.dumps(answer["envelope"]) == document
    (tmp_path / "receipt").write_bytes(document)
    verified = verify(document, read_signing_keys(keys).by_id())
    assert verified.passed
    predicate = verified.statement["predicate"]
    expected = {
        "text_set": text_set["id"],
        "hmac_sha256": text_set["hmac_sha256"],
        "text_count": 3,
        "evidence_rows": 1,
        "reason": "deleted",
    }
    assert predicate | expected == predicate
    assert verified.statement["subject"] == [
        {"name": f"text-set/{text_set['id']}", "digest": {"hmac_sha256": text_set["hmac_sha256"]}}
    ]
    for at in range(0, len(document), 7):
        changed = document[:at] + bytes([document[at] ^ 1]) + document[at + 1 :]
        assert not verify(changed, read_signing_keys(keys).by_id()).passed


async def test_an_erasure_does_not_wait_for_a_long_import(
    settings: Settings, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "TimeLimits", partial(TimeLimits, lock_seconds=0.2))
    async with running_app(settings) as app, client_of(app, make_key(settings)) as client:
        path = f"/v1/text-sets/{(await upload(client))['id']}"
        with database.transaction():
            database.execute("SELECT 1 FROM text_sets FOR KEY SHARE")  # as each text that is written does
            async with asyncio.timeout(10):
                refused = await client.delete(path)
        assert (refused.status_code, "busy" in refused.json()["detail"]) == (503, True)
        assert int(refused.headers["retry-after"]) >= 1
        assert (await client.delete(path)).status_code == 200


async def test_without_a_key_texts_are_erased_and_the_receipt_is_signed_once_there_is_one(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    path = f"/v1/text-sets/{(await upload(client))['id']}"
    assert (await client.delete(path)).json()["envelope"] is None
    assert (await client.get(f"{path}/receipt")).status_code == 503
    rotate_signing_key(settings.signing_keys_directory)
    first = (await client.get(f"{path}/receipt")).content
    assert verify(first, read_signing_keys(settings.signing_keys_directory).by_id()).passed
    assert (await client.get(f"{path}/receipt")).content == first


async def test_a_receipt_is_its_tenants(
    client: httpx.AsyncClient, app: FastAPI, settings: Settings, keys: Path
) -> None:
    path = f"/v1/text-sets/{(await upload(client))['id']}"
    await client.delete(path)
    async with client_of(app, make_key(settings, tenant="other")) as other:
        assert (await other.get(f"{path}/receipt")).status_code == 404


class Kept:
    """What is there of text sets."""

    def __init__(self, session: Session) -> None:
        self.sets = set(session.scalars(select(TextSet.id).where(TextSet.deleted_at.is_(None))))
        self.keys = set(session.scalars(select(TextSetKey.text_set_id)))
        self.texts = set(session.scalars(select(TextRow.text_set_id)))
        self.evidence = set(session.scalars(select(TokenEvidence.audit_id)))
        self.events = len(session.scalars(select(Event.id)).all())


async def test_what_a_tenant_keeps_no_longer_is_erased_unless_it_is_in_use(
    client: httpx.AsyncClient,
    app: FastAPI,
    settings: Settings,
    keys: Path,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
) -> None:
    names = ("old", "new", "old and in use", "old of another tenant")
    async with client_of(app, make_key(settings, tenant="keeps all")) as other:
        made = [await upload(each) for each in (client, client, client, other)]
    sets = {name: parse_id(Prefix.TEXT_SET, each["id"]) for name, each in zip(names, made, strict=True)}
    add_audit(settings, made[0]["id"], OperationStatus.SUCCEEDED)
    audit = add_audit(settings, made[2]["id"], OperationStatus.RUNNING)
    for name, text_set in sets.items():
        if name.startswith("old"):
            database.execute(f"UPDATE text_sets SET created_at = {OLD} WHERE id = %s", (text_set,))
    with sessions.begin() as session:
        # Work on another set keeps that alone.
        edit = add_edit(session, audit.tenant_id)
        session.add(EditTextSet(edit_id=edit.id, role="clean", text_set_id=sets["new"], hmac_sha256="e" * 64))
    retention = json.dumps({"text_sets_days": 30})
    database.execute("UPDATE tenants SET retention = %s WHERE name = 'acme'", (retention,))

    for _ in range(2):
        await expire(app.state.store, settings)
        with sessions() as session:
            kept = Kept(session)
            left = {sets["new"], sets["old and in use"], sets["old of another tenant"]}
            assert kept.sets == kept.keys == kept.texts == left
            assert kept.evidence == {audit.id}
            receipt = session.scalars(select(ErasureReceipt)).one()
            assert receipt.text_set_id == sets["old"]
            assert receipt.envelope is not None
            assert receipt.statement["predicate"]["reason"] == "expired"
            trail = session.scalars(
                select(TrailEntry).where(TrailEntry.action == Action.TEXT_SET_ERASED)
            ).one()
            assert (trail.actor, trail.subject) == (SERVICE, made[0]["id"])
    assert (await client.get(f"/v1/text-sets/{made[0]['id']}/receipt")).status_code == 200

    database.execute("UPDATE audits SET status = 'failed', finished_at = clock_timestamp()")
    await expire(app.state.store, settings)
    with sessions() as session:
        assert Kept(session).sets == {sets["new"], sets["old of another tenant"]}


async def test_a_text_set_that_cannot_be_erased_keeps_no_other(
    client: httpx.AsyncClient,
    app: FastAPI,
    settings: Settings,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
) -> None:
    made = sorted([parse_id(Prefix.TEXT_SET, (await upload(client))["id"]) for _ in range(3)], key=str)
    database.execute(f"UPDATE text_sets SET created_at = {OLD}")
    database.execute("""UPDATE tenants SET retention = '{"text_sets_days": 30}' WHERE name = 'acme'""")
    database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING ERRCODE = 'data_corrupted'; END $$"
    )
    database.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON text_sets FOR EACH ROW "
        f"WHEN (OLD.id = '{made[0]}') EXECUTE FUNCTION refuse()"
    )
    await expire(app.state.store, settings)
    with sessions() as session:
        assert Kept(session).sets == {made[0]}


async def test_evidence_and_events_go_after_their_own_days(
    client: httpx.AsyncClient,
    app: FastAPI,
    settings: Settings,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.maintenance.retention.ROWS_AT_ONCE", 1)
    text_set = await upload(client)
    old, new, running = (
        add_audit(settings, text_set["id"], status)
        for status in (OperationStatus.SUCCEEDED, OperationStatus.SUCCEEDED, OperationStatus.RUNNING)
    )
    database.execute(f"UPDATE audits SET finished_at = {OLD} WHERE id = %s", (old.id,))
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id)).one()
        for _ in range(3):
            subject = {"subject_kind": "audit", "subject_id": old.id, "type": "audit.ended", "data": {}}
            session.add(Event(tenant_id=tenant_id, **subject))
        webhook = Webhook(tenant_id=tenant_id, url="https://receiver.example", enabled=False)
        session.add(webhook)
        session.flush()
        later = datetime.now(UTC) + timedelta(hours=1)
        session.add(
            WebhookDelivery(
                endpoint_id=webhook.id,
                event_id=session.scalars(select(Event.id).order_by(Event.id)).first(),
                type="audit.ended",
                body="{}",
                next_attempt_at=later,
                give_up_at=later,
            )
        )
    some = "SELECT id FROM events ORDER BY id LIMIT 2"
    database.execute(f"UPDATE events SET created_at = {OLD} WHERE id IN ({some})")

    await expire(app.state.store, settings)
    with sessions() as session:
        assert Kept(session).evidence == {old.id, new.id, running.id}, "for ever, unless it is said"
    # Webhooks have been told of all events but the newest.
    database.execute("UPDATE webhook_cursor SET place = (SELECT max(place) - 1 FROM events)")
    # Perhaps with something that only a newer release keeps.
    retention = json.dumps({"evidence_days": 30, "events_days": 30, "drafts_days": 30})
    database.execute("UPDATE tenants SET retention = %s", (retention,))
    await expire(app.state.store, settings)
    with sessions() as session:
        kept = Kept(session)
        assert kept.evidence == {new.id, running.id}
        assert kept.events == 2, "one of the old ones has not been sent to a webhook"
        assert len(kept.texts) == 1
    database.execute("UPDATE webhook_deliveries SET state = 'dead', next_attempt_at = NULL")
    await expire(app.state.store, settings)
    with sessions() as session:
        assert Kept(session).events == 2, "it can be replayed"
    database.execute("UPDATE webhook_deliveries SET state = 'delivered'")
    await expire(app.state.store, settings)
    with sessions() as session:
        assert Kept(session).events == 1
