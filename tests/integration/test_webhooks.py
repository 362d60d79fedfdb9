"""Webhooks: a real receiver with real TLS is told of every event, whatever it answers in the meantime."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session, sessionmaker
from standardwebhooks import WebhookVerificationError

from app.maintenance.retention import collect
from app.settings import Settings
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id, new_id, parse_id
from app.store.events import Event
from app.store.gating import add_gate
from app.store.jobs.owners import AUDIT, EDIT, GATE, LANGUAGE_MODEL
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.lifecycle import end
from app.store.operations import OperationStatus
from app.store.policies import Policy
from app.store.tenants import Tenant
from app.store.trail import TrailEntry
from app.store.webhook_attempts import OPEN_AFTER
from app.store.webhook_deliveries import MOST_TESTS, WebhookCursor
from app.webhooks import deliverer
from tests.http_api import client_of, make_key, running_app
from tests.integration.rows import add_audit_rows, add_edit
from tests.tls_servers import make_authority
from tests.webhook_receiver import Receiver, Reply

JSON = dict[str, Any]
# Enough for a machine that is busy with other tests.
TIMEOUT = 2.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliverer, "_POLL_SECONDS", 0.05)


@pytest.fixture(scope="module")
def receivers(tmp_path_factory: pytest.TempPathFactory) -> list[Receiver]:
    directory = tmp_path_factory.mktemp("receivers")
    authority = make_authority(directory / "authority")
    return [Receiver(authority) for _ in range(2)]


@pytest.fixture
def receiver(receivers: list[Receiver]) -> Iterator[Receiver]:
    with cleared(receivers[0]) as receiver:
        yield receiver


@pytest.fixture
def other_receiver(receivers: list[Receiver]) -> Iterator[Receiver]:
    with cleared(receivers[1]) as receiver:
        yield receiver


def cleared(receiver: Receiver) -> Receiver:
    receiver.received.clear()
    receiver.connections = 0
    receiver.answer = lambda _: Reply()
    return receiver


@pytest.fixture
def settings(database_url: str, broker_url: str, receivers: list[Receiver]) -> Settings:
    return Settings(
        database_url=database_url,
        broker_url=broker_url,
        webhook_networks=[each.network for each in receivers],
        webhook_ca_file=receivers[0].authority.certificate,
        webhook_retry_seconds=0.05,
        webhook_timeout_seconds=TIMEOUT,
    )


async def add_webhook(client: httpx.AsyncClient, url: str, **fields: Any) -> JSON:
    answer = await client.post(
        "/v1/webhooks", json={"url": url, **fields}, headers={"Idempotency-Key": uuid4().hex}
    )
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def tell(sessions: sessionmaker[Session], events: int = 1, *, tenant: str = "acme") -> list[str]:
    """Let so many audits of a tenant end, each in a transaction; their ids."""
    ended = []
    for _ in range(events):
        with sessions.begin() as session:
            tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == tenant)).one()
            audit = add_audit_rows(session, tenant_id)
            assert end(session, AUDIT, audit.id, OperationStatus.SUCCEEDED)
            ended.append(format_id(Prefix.AUDIT, audit.id))
    return ended


def all_taken(sessions: sessionmaker[Session]) -> bool:
    """Whether all events have become deliveries, of those who are told of them."""
    with sessions() as session:
        last = session.scalars(select(func.max(Event.place))).one()
        return last is not None and session.scalars(select(WebhookCursor.place)).one() == last


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        holds = condition()
        if holds if isinstance(holds, bool) else await holds:
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def deliveries(client: httpx.AsyncClient, webhook: JSON, **query: str) -> list[JSON]:
    answer = await client.get(f"/v1/webhooks/{webhook['id']}/deliveries", params={"limit": "100", **query})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def settled(client: httpx.AsyncClient, webhook: JSON, count: int) -> list[JSON]:
    """The deliveries of a webhook once so many are there and none is pending."""
    found: list[JSON] = []

    async def are_settled() -> bool:
        found[:] = await deliveries(client, webhook)
        return len(found) == count and all(each["status"] != "pending" for each in found)

    await until(are_settled)
    return found


def subjects(receiver: Receiver, secret: str) -> list[str]:
    return [each.verified(secret)["data"]["subject"]["id"] for each in list(receiver.received)]


async def test_events_arrive_signed_thin_and_once(
    client: httpx.AsyncClient,
    sessions: sessionmaker[Session],
    receiver: Receiver,
    other_receiver: Receiver,
    settings: Settings,
    database: psycopg.Connection,
) -> None:
    tell(sessions)
    await until(lambda: all_taken(sessions))  # what happened before is not told
    everything = await add_webhook(client, receiver.url, description="ours", metadata={"team": "a"})
    erasures = await add_webhook(client, other_receiver.url, event_types=["text_set.erased"])
    make_key(settings, tenant="other")
    audits = tell(sessions, 5)
    tell(sessions, 3, tenant="other")
    with sessions.begin() as session:
        ended = session.get_one(Audit, parse_id(Prefix.AUDIT, audits[0]))
        text_set_id = format_id(Prefix.TEXT_SET, ended.text_set_id)
        model_id = format_id(Prefix.LANGUAGE_MODEL, ended.language_model_id)
        model = LanguageModel(id=new_id(), tenant_id=ended.tenant_id, source={})
        session.add(model)
        session.flush()
        assert end(session, LANGUAGE_MODEL, model.id, LanguageModelStatus.REJECTED)
    assert (await client.delete(f"/v1/text-sets/{text_set_id}")).status_code == 200
    assert (await client.delete(f"/v1/models/{model_id}")).status_code == 204
    sent = await settled(client, everything, 8)
    assert {each["status"] for each in sent} == {"delivered"}
    assert {each["last_status"] for each in sent} == {204}
    (erased,) = await settled(client, erasures, 1)
    assert Counter(receiver.ids()) == Counter({each["id"]: 1 for each in sent})
    assert other_receiver.ids() == [erased["id"]]
    told = [each.verified(everything["secret"]) for each in receiver.received]
    rejected = format_id(Prefix.LANGUAGE_MODEL, model.id)
    assert {(each["type"], each["data"]["subject"]["id"]) for each in told} == {
        *(("audit.succeeded", audit) for audit in audits),
        ("language_model.rejected", rejected),
        ("language_model.deleted", model_id),
        ("text_set.erased", text_set_id),
    }
    listed = {each["id"]: each for each in (await client.get("/v1/events?limit=100")).json()["data"]}
    for each in told:
        event = listed[each["data"]["event"]]
        assert each["type"] == event["type"]
        assert datetime.fromisoformat(each["timestamp"]) == datetime.fromisoformat(event["created_at"])
        assert each["data"]["subject"] == event["subject"]
        assert each["data"]["status"] == event["data"]["status"]
        assert each.keys() == {"type", "timestamp", "data"}
    with pytest.raises(WebhookVerificationError):
        receiver.received[0].verified(erasures["secret"])
    assert not {everything["secret"], erasures["secret"]} & strings_of(database)


def strings_of(database: psycopg.Connection) -> set[str]:
    """Every string in what is kept of requests and webhooks."""
    rows = []
    for table in ("idempotency_keys", "webhook_endpoints", "webhook_secrets", "webhook_deliveries"):
        rows += database.execute(f"SELECT to_jsonb(t) FROM {table} t").fetchall()
    found: set[str] = set()

    def collect_strings(value: Any) -> None:
        if isinstance(value, str):
            found.add(value)
        elif isinstance(value, dict):
            for each in value.values():
                collect_strings(each)

    for (row,) in rows:
        collect_strings(row)
    return found


async def test_words_of_the_client_are_not_sent(
    client: httpx.AsyncClient, sessions: sessionmaker[Session], receiver: Receiver
) -> None:
    """What an event knows beside ids, status and outcome, as the label of a version, stays here."""
    webhook = await add_webhook(client, receiver.url)
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id)).one()
        audit = add_audit_rows(session, tenant_id)
        session.execute(
            insert(Event).values(
                tenant_id=tenant_id,
                type="audit.succeeded",
                subject_kind="audit",
                subject_id=audit.id,
                data=KNOWN,
            )
        )
    await settled(client, webhook, 1)
    (message,) = receiver.received
    data = message.verified(webhook["secret"])["data"]
    assert data["outcome"] == "fail"
    assert data["policy"] == KNOWN["policy"]
    assert "canary" not in message.body.decode()


async def test_of_edits_is_told_who_may_read_them(
    app: FastAPI,
    client: httpx.AsyncClient,
    settings: Settings,
    sessions: sessionmaker[Session],
    receiver: Receiver,
    other_receiver: Receiver,
) -> None:
    scopes = ("audit:read", "audit:write", "edit:read")
    async with client_of(app, make_key(settings, scopes=scopes)) as editor:
        narrow = await add_webhook(client, receiver.url)
        wide = await add_webhook(editor, other_receiver.url)
        assert (narrow["includes_edits"], wide["includes_edits"]) == (False, True)
        (audit,) = tell(sessions)
        with sessions.begin() as session:
            tenant_id = session.scalars(select(Tenant.id)).one()
            edit = add_edit(session, tenant_id)
            policy = Policy(tenant_id=tenant_id, name="p", version=1, rules=[], sha256="0" * 64)
            session.add(policy)
            session.flush()
            gates = [
                add_gate(session, tenant_id, policy, kind, identifier, metadata={})
                for kind, identifier in (("edit", edit.id), ("audit", parse_id(Prefix.AUDIT, audit)))
            ]
            assert end(session, EDIT, edit.id, OperationStatus.CANCELLED)
            for gate in gates:
                end(session, GATE, gate.id, OperationStatus.CANCELLED)
        of_edit, of_audit = (format_id(Prefix.GATE, gate.id) for gate in gates)
        told = {audit, of_audit}
        await settled(client, narrow, 2)
        await settled(editor, wide, 4)
        assert set(subjects(receiver, narrow["secret"])) == told
        edits = {format_id(Prefix.EDIT, edit.id), of_edit}
        assert set(subjects(other_receiver, wide["secret"])) == told | edits
        for reader, seen in ((client, told), (editor, told | edits)):
            listed = (await reader.get("/v1/events")).json()["data"]
            assert {each["subject"]["id"] for each in listed} == seen
        await _only_who_may_read_edits_sees_their_deliveries(client, editor, wide)

        named = {"event_types": ["audit.failed", "edit.failed"]}
        for path, change in (
            (f"/v1/webhooks/{narrow['id']}", named),
            # Nor may it take what others may hear of.
            (f"/v1/webhooks/{wide['id']}", {"url": receiver.url}),
            (f"/v1/webhooks/{wide['id']}", {"event_types": None}),
        ):
            refused = await client.patch(path, json=change)
            assert (refused.status_code, "edit:read" in refused.json()["detail"]) == (403, True)
        refused = await client.post(
            "/v1/webhooks", json={"url": receiver.url, **named}, headers={"Idempotency-Key": uuid4().hex}
        )
        assert refused.status_code == 403
        assert (await client.patch(f"/v1/webhooks/{wide['id']}", json={"enabled": False})).status_code == 200
        changed = await editor.patch(f"/v1/webhooks/{narrow['id']}", json=named)
        assert changed.json()["includes_edits"] is True


async def _only_who_may_read_edits_sees_their_deliveries(
    client: httpx.AsyncClient, editor: httpx.AsyncClient, webhook: JSON
) -> None:
    """Of the edit and the gate on it; a test tells of nothing, and everybody sees it."""
    path = f"/v1/webhooks/{webhook['id']}"
    test = (await client.post(f"{path}/test")).json()
    everything = await settled(editor, webhook, 5)
    ids = [event["id"] for event in (await client.get("/v1/events")).json()["data"]]
    seen = [each for each in everything if each["event"] in {None, *ids}]
    assert len(seen) == 3
    assert seen[0]["id"] == test["id"]
    assert await deliveries(client, webhook) == seen
    for each in everything:
        delivery = f"{path}/deliveries/{each['id']}"
        asked = [await client.get(delivery), await client.post(f"{delivery}/replay")]
        assert [answer.status_code for answer in asked] == ([200, 202] if each in seen else [404, 404])
        assert (await editor.get(delivery)).status_code == 200


KNOWN = {"status": "succeeded", "outcome": "fail", "policy": "pol_1", "label": "canary", "note": "canary"}


async def test_a_receiver_that_was_away_gets_everything_once_it_is_back(
    client: httpx.AsyncClient, sessions: sessionmaker[Session], receiver: Receiver, other_receiver: Receiver
) -> None:
    """Meanwhile one try at a time knocks, and others are served as ever."""
    away = await add_webhook(client, receiver.url)
    there = await add_webhook(client, other_receiver.url)
    receiver.stop()
    audits = tell(sessions, 12)
    sent = await settled(client, there, 12)
    assert {each["attempts"] for each in sent} == {1}

    async def has_failed_often() -> bool:
        return sum(each["attempts"] for each in await deliveries(client, away)) > OPEN_AFTER + 4

    await until(has_failed_often)
    waiting = await deliveries(client, away)
    assert {(each["status"], each["last_status"]) for each in waiting} == {("pending", None)}
    assert {each["last_error"] for each in waiting} <= {"not_connected", None}
    receiver.start()
    sent = await settled(client, away, 12)
    assert {each["status"] for each in sent} == {"delivered"}
    assert Counter(receiver.ids()) == Counter({each["id"]: 1 for each in sent})
    assert sorted(subjects(receiver, away["secret"])) == sorted(audits)


async def test_a_receiver_that_hangs_delays_nobody_else(
    client: httpx.AsyncClient, sessions: sessionmaker[Session], receiver: Receiver, other_receiver: Receiver
) -> None:
    receiver.answer = lambda _: Reply(after=2 * TIMEOUT)
    hanging = await add_webhook(client, receiver.url)
    there = await add_webhook(client, other_receiver.url)
    tell(sessions, 20)
    sent = await settled(client, there, 20)
    assert {each["attempts"] for each in sent} == {1}
    # Four at once, and from the third failure on one at a time.
    assert sum(each["attempts"] for each in await deliveries(client, hanging)) < 20

    async def timed_out() -> bool:
        return any(each["last_error"] == "timed_out" for each in await deliveries(client, hanging))

    await until(timed_out)


async def test_what_is_refused_is_sent_again_with_its_id_and_body(
    client: httpx.AsyncClient, receiver: Receiver, other_receiver: Receiver
) -> None:
    target = other_receiver.url
    replies = [Reply(500), Reply(302, {"Location": target}), Reply(404), Reply(200)]
    receiver.answer = lambda _: replies[len(receiver.received) - 1]
    webhook = await add_webhook(client, receiver.url)
    asked = await client.post(f"/v1/webhooks/{webhook['id']}/test")
    assert asked.status_code == 202
    (sent,) = await settled(client, webhook, 1)
    assert (sent["status"], sent["attempts"], sent["last_status"]) == ("delivered", 4, 200)
    assert (await client.get(asked.headers["Location"])).json() == sent
    first, *again = receiver.received
    assert {(each.id, each.body) for each in again} == {(first.id, first.body)}
    assert first.verified(webhook["secret"]) | {"timestamp": None} == {
        "type": "webhook.test",
        "timestamp": None,
        "data": {"webhook": webhook["id"]},
    }
    assert other_receiver.connections == 0  # redirects are not followed


async def test_only_so_many_tests_wait_to_be_delivered(
    client: httpx.AsyncClient, receiver: Receiver, database: psycopg.Connection
) -> None:
    receiver.answer = lambda _: Reply(503, {"Retry-After": "600"})
    webhook = await add_webhook(client, receiver.url)
    path = f"/v1/webhooks/{webhook['id']}"
    answers = await asyncio.gather(*(client.post(f"{path}/test") for _ in range(MOST_TESTS + 2)))
    assert Counter(each.status_code for each in answers) == {202: MOST_TESTS, 409: 2}
    refused = next(each for each in answers if each.status_code == 409)
    assert refused.json()["type"].rsplit("/", 1)[1] == "too-many-tests"
    receiver.answer = lambda _: Reply()
    await client.patch(path, json={"enabled": True})
    await settled(client, webhook, MOST_TESTS)
    assert (await client.post(f"{path}/test")).status_code == 202


async def test_a_receiver_that_asks_for_time_is_left_in_peace(
    client: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.answer = lambda _: (
        Reply(429, {"Retry-After": "1"}) if len(receiver.received) == 1 else Reply(200)
    )
    webhook = await add_webhook(client, receiver.url)
    for _ in range(2):
        await client.post(f"/v1/webhooks/{webhook['id']}/test")
    await settled(client, webhook, 2)
    first, *later = (each.at for each in receiver.received)
    # Unless the second was on its way before the first was answered.
    assert max(later) - first >= 1


async def test_answers_are_not_read_to_their_end(
    client: httpx.AsyncClient, receiver: Receiver, other_receiver: Receiver, sessions: sessionmaker[Session]
) -> None:
    receiver.answer = lambda _: Reply(200, endless=True)
    other_receiver.answer = lambda _: Reply(200, endless=True, byte_a_time=True)
    large = await add_webhook(client, receiver.url)
    slow = await add_webhook(client, other_receiver.url)
    tell(sessions)
    (sent,) = await settled(client, large, 1)
    assert (sent["status"], sent["attempts"]) == ("delivered", 1)

    async def is_given_up() -> bool:
        return [each["last_error"] for each in await deliveries(client, slow)] == ["timed_out"]

    await until(is_given_up)


async def test_gone_disables_and_enabling_begins_anew(
    client: httpx.AsyncClient, receiver: Receiver, sessions: sessionmaker[Session]
) -> None:
    receiver.answer = lambda _: Reply(410)
    webhook = await add_webhook(client, receiver.url)
    path = f"/v1/webhooks/{webhook['id']}"
    tell(sessions)
    (dead,) = await settled(client, webhook, 1)
    assert (dead["status"], dead["attempts"], dead["last_status"]) == ("dead", 1, 410)
    gone = (await client.get(path)).json()
    assert (gone["enabled"], gone["disabled_reason"]) == (False, "gone")
    refused = await client.post(f"{path}/deliveries/{dead['id']}/replay")
    assert (refused.status_code, refused.json()["type"].rsplit("/", 1)[1]) == (409, "webhook-disabled")
    tell(sessions)  # of this it is not told
    await until(lambda: all_taken(sessions))
    receiver.answer = lambda _: Reply()
    enabled = (await client.patch(path, json={"enabled": True})).json()
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    assert (await client.post(f"{path}/deliveries/{dead['id']}/replay")).status_code == 202
    (sent,) = await settled(client, webhook, 1)
    assert (sent["status"], sent["attempts"]) == ("delivered", 2)
    assert receiver.ids() == [dead["id"]] * 2


async def test_both_secrets_sign_while_they_are_rotated(
    client: httpx.AsyncClient, receiver: Receiver, database: psycopg.Connection
) -> None:
    webhook = await add_webhook(client, receiver.url)
    path = f"/v1/webhooks/{webhook['id']}"
    rotated = await client.post(f"{path}/rotate-secret", json={"overlap_seconds": 3600})
    second = rotated.json()["secret"]
    await client.post(f"{path}/test")
    await until(lambda: len(receiver.received) == 1)
    message = receiver.received[0]
    assert len(message.headers["webhook-signature"].split()) == 2
    for secret in (webhook["secret"], second):
        assert message.verified(secret)["type"] == "webhook.test"
    third = (await client.post(f"{path}/rotate-secret", json={"overlap_seconds": 0})).json()["secret"]
    await client.post(f"{path}/test")
    await until(lambda: len(receiver.received) == 2)
    message = receiver.received[1]
    assert message.verified(third)["type"] == "webhook.test"
    for secret in (webhook["secret"], second):
        with pytest.raises(WebhookVerificationError):
            message.verified(secret)
    for _ in range(4):
        assert (await client.post(f"{path}/rotate-secret", json={})).status_code == 200
    refused = await client.post(f"{path}/rotate-secret", json={})
    assert refused.json()["type"].rsplit("/", 1)[1] == "too-many-secrets"
    assert "secret" not in (await client.get(path)).json()


async def test_what_is_dead_can_be_replayed(
    client: httpx.AsyncClient,
    receiver: Receiver,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
) -> None:
    receiver.answer = lambda _: Reply(500)
    webhook = await add_webhook(client, receiver.url)
    path = f"/v1/webhooks/{webhook['id']}"
    tell(sessions, 3)
    await until(lambda: len(receiver.received) >= 3)
    # Not in this thread, whose loop may be in a transaction that holds these rows.
    await asyncio.to_thread(database.execute, "UPDATE webhook_deliveries SET give_up_at = clock_timestamp()")
    dead = await settled(client, webhook, 3)
    assert {each["status"] for each in dead} == {"dead"}
    assert len(await deliveries(client, webhook, status="dead")) == 3
    assert await deliveries(client, webhook, status="pending") == []
    tries = len(receiver.received)
    receiver.answer = lambda _: Reply()
    late = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    none = await client.post(f"{path}/replay", json={"since": late})
    assert none.json() == {"object": "webhook_replay", "replayed": 0, "has_more": False}
    some = await client.post(f"{path}/replay", json={"since": sorted(each["created_at"] for each in dead)[1]})
    assert (some.status_code, some.json()["replayed"]) == (202, 2)
    await until(lambda: len(receiver.received) == tries + 2)
    assert set(receiver.ids()[tries:]) == {each["id"] for each in sorted(dead, key=created)[1:]}
    assert [each["id"] for each in await deliveries(client, webhook, status="dead")] == [
        min(dead, key=created)["id"]
    ]


def created(delivery: JSON) -> str:
    return str(delivery["created_at"])


async def test_a_process_that_ends_gives_back_what_it_was_sending(
    settings: Settings, receiver: Receiver, database: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "_DRAIN_SECONDS", 0.05)
    receiver.answer = lambda _: Reply(after=1)
    async with running_app(settings) as app, client_of(app, make_key(settings)) as client:
        webhook = await add_webhook(client, receiver.url)
        await client.post(f"/v1/webhooks/{webhook['id']}/test")
        await until(lambda: bool(receiver.received))
    (row,) = database.execute(
        "SELECT state, attempts, claimed_until, next_attempt_at <= clock_timestamp() FROM webhook_deliveries"
    ).fetchall()
    assert row == ("pending", 1, None, True)
    receiver.answer = lambda _: Reply()
    async with running_app(settings) as app, client_of(app, make_key(settings)) as client:
        (sent,) = await settled(client, webhook, 1)
    assert (sent["status"], sent["attempts"]) == ("delivered", 2)
    assert len(set(receiver.ids())) == 1


async def test_processes_share_an_outbox(
    app: FastAPI,
    client: httpx.AsyncClient,
    settings: Settings,
    receiver: Receiver,
    sessions: sessionmaker[Session],
) -> None:
    webhook = await add_webhook(client, receiver.url)
    async with running_app(settings):
        tell(sessions, 24)
        await settled(client, webhook, 24)
    assert len(receiver.ids()) == len(set(receiver.ids())) == 24


async def test_a_webhook_is_made_once_changed_and_deleted(
    client: httpx.AsyncClient,
    receiver: Receiver,
    sessions: sessionmaker[Session],
    settings: Settings,
    app: FastAPI,
) -> None:
    key, body = {"Idempotency-Key": uuid4().hex}, {"url": receiver.url, "metadata": {"team": "a"}}
    first, again = [await client.post("/v1/webhooks", json=body, headers=key) for _ in range(2)]
    webhook = first.json()
    assert webhook["secret"].startswith("whsec_")
    assert again.json() == webhook | {"secret": None}
    path = f"/v1/webhooks/{webhook['id']}"
    assert first.headers["Location"] == path
    public = {name: value for name, value in webhook.items() if name != "secret"}
    for query in ("", "?metadata[team]=a"):
        assert (await client.get(f"/v1/webhooks{query}")).json()["data"] == [public]
    assert (await client.get("/v1/webhooks?metadata[team]=b")).json()["data"] == []
    change = {"event_types": ["gate.failed"], "description": None, "metadata": {"team": "b"}}
    assert (await client.patch(path, json=change)).json() == public | change
    tell(sessions)
    await until(lambda: all_taken(sessions))
    assert await deliveries(client, webhook) == []
    made = [await add_webhook(client, receiver.url) for _ in range(19)]
    refused = await client.post("/v1/webhooks", json=body, headers={"Idempotency-Key": uuid4().hex})
    assert refused.json()["type"].rsplit("/", 1)[1] == "too-many-webhooks"
    async with client_of(app, make_key(settings, tenant="other")) as other:
        await add_webhook(other, receiver.url)
    assert (await client.delete(f"/v1/webhooks/{made[0]['id']}")).status_code == 204
    assert (await client.get(f"/v1/webhooks/{made[0]['id']}")).status_code == 404
    await add_webhook(client, receiver.url)


async def test_what_is_done_to_webhooks_is_in_the_trail_without_a_word_of_the_client(
    client: httpx.AsyncClient, receiver: Receiver, sessions: sessionmaker[Session]
) -> None:
    key, body = {"Idempotency-Key": uuid4().hex}, {"url": receiver.url, "description": "canary"}
    first, _ = [await client.post("/v1/webhooks", json=body, headers=key) for _ in range(2)]
    webhook = first.json()["id"]
    path = f"/v1/webhooks/{webhook}"
    delivery = (await client.post(f"{path}/test")).json()["id"]
    for sent in (
        client.patch(path, json={"url": receiver.url, "metadata": {"canary": "canary"}}),
        client.post(f"{path}/rotate-secret", json={"overlap_seconds": 60}),
        client.post(f"{path}/deliveries/{delivery}/replay"),
        client.post(f"{path}/replay", json={"since": "2026-01-01T00:00:00Z"}),
        client.delete(path),
    ):
        assert (await sent).is_success
    with sessions.begin() as session:
        rows = session.scalars(select(TrailEntry).order_by(TrailEntry.id)).all()
        told = [(row.action, row.facts) for row in rows if row.subject == webhook]
        actors = {row.actor for row in rows if row.subject == webhook}
    assert told == [
        ("webhook.created", {}),
        ("webhook.tested", {"delivery": delivery}),
        ("webhook.changed", {"changed": ["metadata", "url"], "enabled": True}),
        ("webhook.rotated", {"overlap_seconds": 60}),
        ("webhook.replayed", {"delivery": delivery}),
        ("webhook.replayed", {"deliveries": 0}),
        ("webhook.deleted", {}),
    ]
    assert {actor[:4] for actor in actors} == {"key_"}


async def test_old_deliveries_are_removed_and_forgotten_ones_buried(
    client: httpx.AsyncClient,
    app: FastAPI,
    receiver: Receiver,
    settings: Settings,
    database: psycopg.Connection,
) -> None:
    webhook = await add_webhook(client, receiver.url)
    path = f"/v1/webhooks/{webhook['id']}"
    asked = [(await client.post(f"{path}/test")).json()["id"] for _ in range(3)]
    await settled(client, webhook, 3)
    await client.patch(path, json={"enabled": False})
    old, waiting = (parse_id(Prefix.DELIVERY, each) for each in asked[:2])
    assert isinstance(old, UUID)
    database.execute(
        "UPDATE webhook_deliveries SET finished_at = finished_at - interval '31 days' WHERE id = %s", [old]
    )
    database.execute(
        "UPDATE webhook_deliveries SET state = 'pending', next_attempt_at = clock_timestamp(), "
        "give_up_at = clock_timestamp(), finished_at = NULL WHERE id = %s",
        [waiting],
    )
    await collect(app.state.store, settings)
    left = {each["id"]: each["status"] for each in await deliveries(client, webhook)}
    assert left == {asked[1]: "dead", asked[2]: "delivered"}
