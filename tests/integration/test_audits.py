"""Audits on a real Postgres: followed, waited for and ended; their scores and evidence read as written."""

import asyncio
import json
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id, parse_id
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.jobs.claiming import claim
from app.store.jobs.leases import Lease, heartbeat, take_for_finish
from app.store.jobs.owners import AUDIT
from app.store.lifecycle import begin_operation, complete_shard, end, succeed_audit
from app.store.operations import OperationStatus
from app.store.scores import copy_scores
from app.store.tenants import Tenant
from app.store.token_evidence import Evidence, copy_evidence
from tests.http_api import make_key
from tests.integration.rows import add_audit_rows, add_ready_model, add_shard, score_row

# Equal, neighbouring and tiny values, zeros of both signs, and texts without a number.
NL = [-2.0, None, -0.1, -2.0, 0.0, None, -0.30000000000000004, -0.0, -0.3, -2.0, None, -1e-300, -0.1]
GROUPS = (None, "a/b", "naïve")


@pytest.fixture
def sessions(settings: Settings) -> Iterator[sessionmaker[Session]]:
    """The store from another connection, as a worker has it."""
    engine = sync_engine(settings.require_database_url())
    yield sync_sessions(engine)
    engine.dispose()


@pytest.fixture
def audit(client: httpx.AsyncClient, sessions: sessionmaker[Session]) -> Audit:
    """A queued audit of ten texts."""
    return new_audit(sessions)


def new_audit(sessions: sessionmaker[Session], tenant: str = "acme", texts: int = 10) -> Audit:
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == tenant)).one()
        return add_audit_rows(session, tenant_id, texts=texts)


def path_of(audit: Audit, rest: str = "") -> str:
    return f"/v1/audits/{format_id(Prefix.AUDIT, audit.id)}{rest}"


@pytest.fixture
def scored(client: httpx.AsyncClient, sessions: sessionmaker[Session]) -> Audit:
    """A succeeded audit with the numbers NL, written by two shards in the wrong order."""
    audit = new_audit(sessions, texts=len(NL))
    rows = [
        score_row(audit.id, ordinal, nl, group=GROUPS[ordinal % 3], duplicates=ordinal)
        for ordinal, nl in enumerate(NL)
    ]
    for shard in (rows[6:], rows[:6]):
        with sessions.begin() as session:
            copy_scores(session, shard)
    with sessions.begin() as session:
        succeed_audit(session, audit.id, {})
    return audit


def in_order(sort: str, group: str | None = None) -> list[int]:
    """The oracle of `sort`: Python's stable sort of the ordinals, texts without a number last."""
    ordinals = [o for o in range(len(NL)) if group is None or GROUPS[o % 3] == group]
    if sort == "ordinal":
        return ordinals
    sign = -1 if sort == "-nl" else 1
    return sorted(ordinals, key=lambda o: (NL[o] is None, sign * (NL[o] or 0)))


async def pages(client: httpx.AsyncClient, path: str, **params: Any) -> AsyncIterator[list[dict[str, Any]]]:
    while True:
        response = await client.get(path, params=params)
        assert response.status_code == 200, response.text
        page = response.json()
        yield page["data"]
        assert page["has_more"] == (page["next_cursor"] is not None)
        if not page["has_more"]:
            return
        params["cursor"] = page["next_cursor"]


async def events_of(response: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The fields of each event; comments and `retry` are left out."""
    assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
    event: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name in {"id", "event", "data"}:
            event[name] = value
        elif not line and event:
            yield event
            event = {}


async def test_each_change_is_an_event_until_the_end(
    remote: httpx.AsyncClient, audit: Audit, sessions: sessionmaker[Session]
) -> None:
    """An event's data is what a read answers at that time; what it counts is what the store was told."""

    def claim_and_beat(session: Session) -> None:
        add_shard(session, audit)
        lease = claim(session, queue="gpu", worker="w", lease_seconds=60, loaded=[])
        assert lease is not None
        assert heartbeat(session, lease, lease_seconds=60, progress=3)
        leases.append(lease)

    def finish_shard(session: Session) -> None:
        take_for_finish(session, leases[0])
        complete_shard(session, audit.id, 10)

    leases: list[Lease] = []
    changes: list[tuple[Callable[[Session], object], str, int]] = [
        (lambda session: begin_operation(session, Audit, audit.id, "d" * 64), "running", 0),
        (claim_and_beat, "running", 3),
        (finish_shard, "running", 10),
        (lambda session: succeed_audit(session, audit.id, {}), "succeeded", 10),
    ]
    request = remote.stream("GET", path_of(audit, "/events"))
    async with asyncio.timeout(20), request as response, aclosing(events_of(response)) as events:
        ids = [(await anext(events))["id"]]
        for change, status, done in changes:
            with sessions.begin() as session:
                change(session)
            event = await anext(events)
            shown = json.loads(event["data"])
            assert (event["event"], shown["status"], shown["progress"]["done"]) == (status, status, done)
            assert shown == (await remote.get(path_of(audit))).json()
            ids.append(event["id"])
        assert [event async for event in events] == []
    assert len(set(ids)) == len(ids)


async def test_a_state_that_was_seen_is_not_sent_again(
    remote: httpx.AsyncClient, audit: Audit, sessions: sessionmaker[Session]
) -> None:
    async def next_event(seen: str, change: Callable[[Session], object] | None = None) -> dict[str, str]:
        """The first event for a client that saw `seen`; `change` happens while it waits."""
        request = remote.stream("GET", path_of(audit, "/events"), headers={"Last-Event-ID": seen})
        async with asyncio.timeout(10), request as response, aclosing(events_of(response)) as events:
            if change is not None:
                await asyncio.sleep(0.3)
                with sessions.begin() as session:
                    change(session)
            return await anext(events, {})

    queued = await next_event("never seen")
    assert queued["event"] == "queued"
    running = await next_event(
        queued["id"], lambda session: begin_operation(session, Audit, audit.id, "d" * 64)
    )
    assert running["event"] == "running"
    counted = await next_event(running["id"], lambda session: complete_shard(session, audit.id, 4))
    assert json.loads(counted["data"])["progress"]["done"] == 4
    # After an older state the current one is sent at once.
    assert await next_event(queued["id"]) == counted
    with sessions.begin() as session:
        end(session, AUDIT, audit.id, OperationStatus.FAILED)
    failed = await next_event(counted["id"])
    assert failed["event"] == "failed"
    assert await next_event(failed["id"]) == {}


async def test_tokens_come_back_as_they_were_packed(
    client: httpx.AsyncClient, sessions: sessionmaker[Session]
) -> None:
    """The oracle is `struct`: little-endian items, and -0.1 as the nearest float32."""
    text = "naïve 𝄞 end"
    texts = [{"id": "without", "text": "x"}, {"id": "it:1", "text": text}]
    text_set = (await client.post("/v1/text-sets", json={"name": "set", "texts": texts})).json()["id"]
    with sessions.begin() as session:
        tenant_id = session.scalars(select(Tenant.id)).one()
        model = format_id(Prefix.LANGUAGE_MODEL, add_ready_model(session, tenant_id).id)
    request = {"model": model, "text_set": text_set}
    audit = (await client.post("/v1/audits", json=request, headers={"Idempotency-Key": "k"})).json()["id"]
    path = f"/v1/audits/{audit}/scores"
    assert (await client.get(f"{path}/it:1/tokens")).status_code == 409
    identifier = parse_id(Prefix.AUDIT, audit)
    assert identifier is not None
    packed = Evidence(
        ordinal=1,
        token_ids=struct.pack("<3i", 258, 2**31 - 1, 0),
        log_likelihoods=struct.pack("<3f", -0.1, 0.0, -1234.5),
        ranks=struct.pack("<3i", 1, 2, 50_257),
        spans=struct.pack("<6i", 0, 5, 5, 7, 7, 11),
        means=struct.pack("<3f", -0.25, -1.5, -8.0),
        deviations=struct.pack("<3f", 0.5, 0.0, 2.0),
        sampling_log_likelihoods=None,
    )
    with sessions.begin() as session:
        copy_evidence(session, identifier, [packed])
        succeed_audit(session, identifier, {})
    answer = (await client.get(f"{path}/it:1/tokens")).json()
    keys = ("token_id", "text", "start", "end", "log_likelihood", "mean", "deviation", "rank", "matched")
    expected = [
        (258, "naïve", 0, 5, float.fromhex("-0x1.99999ap-4"), -0.25, 0.5, 1, True),
        (2**31 - 1, " 𝄞", 5, 7, 0.0, -1.5, 0.0, 2, False),
        (0, " end", 7, 11, -1234.5, -8.0, 2.0, 50_257, False),
    ]
    tokens = [dict(zip(keys, values, strict=True)) for values in expected]
    assert answer == {"object": "token_evidence", "audit": audit, "text_id": "it:1", "tokens": tokens}
    for text_id in ("without", "unknown"):
        assert (await client.get(f"{path}/{text_id}/tokens")).status_code == 404
    assert (await client.delete(f"/v1/text-sets/{text_set}")).status_code == 200
    erased = await client.get(f"{path}/it:1/tokens")
    assert (erased.status_code, "naïve" in erased.text) == (404, False)


@pytest.mark.parametrize("sort", ["ordinal", "nl", "-nl"])
async def test_pages_hold_every_row_once_in_order(
    client: httpx.AsyncClient, scored: Audit, sort: str, subtests: pytest.Subtests
) -> None:
    """The oracle is `in_order`."""
    for group in (None, *GROUPS[1:], "no such group"):
        for limit in (1, 2, 3, 12, 13, 1000):
            with subtests.test(group=group, limit=limit):
                params = {"sort": sort, "limit": limit} | ({} if group is None else {"group": group})
                listed = [page async for page in pages(client, path_of(scored, "/scores"), **params)]
                rows = [row for page in listed for row in page]
                assert [row["ordinal"] for row in rows] == in_order(sort, group)
                assert [row["nl"] for row in rows] == [NL[row["ordinal"]] for row in rows]
                assert {row["group"] for row in rows} <= ({group} if group else set(GROUPS))
                assert all(len(page) == limit for page in listed[:-1])


async def test_a_cursor_belongs_to_its_order(client: httpx.AsyncClient, scored: Audit) -> None:
    path, orders = path_of(scored, "/scores"), ("ordinal", "nl", "-nl")
    for made_by in orders:
        first = (await client.get(path, params={"sort": made_by, "limit": 5})).json()
        for used_by in orders:
            response = await client.get(path, params={"sort": used_by, "cursor": first["next_cursor"]})
            assert response.status_code == (200 if made_by == used_by else 422)
            if made_by != used_by:
                assert response.json()["errors"] == [{"pointer": "/cursor", "code": "invalid_cursor"}]


async def test_audits_are_listed_newest_first(
    client: httpx.AsyncClient, settings: Settings, sessions: sessionmaker[Session]
) -> None:
    make_key(settings, tenant="other")
    ids = [format_id(Prefix.AUDIT, new_audit(sessions).id) for _ in range(7)]
    new_audit(sessions, tenant="other")
    seen: list[str] = []
    async for page in pages(client, "/v1/audits", limit=3):
        seen += [row["id"] for row in page]
        new_audit(sessions)  # what is added meanwhile moves nothing
    assert seen == ids[::-1]


async def test_waiting_lasts_until_the_end(
    client: httpx.AsyncClient, audit: Audit, sessions: sessionmaker[Session]
) -> None:
    reading = asyncio.create_task(client.get(path_of(audit), params={"wait": 30}))
    await asyncio.sleep(0.25)
    with sessions.begin() as session:
        begin_operation(session, Audit, audit.id, "d" * 64)
    await asyncio.sleep(0.25)
    assert not reading.done()
    with sessions.begin() as session:
        succeed_audit(session, audit.id, {})
    response = await asyncio.wait_for(reading, timeout=5)
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert "retry-after" not in response.headers


async def test_waiting_ends_with_its_time(client: httpx.AsyncClient, audit: Audit) -> None:
    began = time.monotonic()
    response = await client.get(path_of(audit), params={"wait": 0.4})
    assert 0.4 <= time.monotonic() - began < 5
    assert (response.status_code, response.json()["status"]) == (200, "queued")
    assert response.headers["retry-after"] == "1"
