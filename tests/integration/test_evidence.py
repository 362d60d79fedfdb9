"""Evidence over HTTP: which formats there are, when, for whom, and what of texts is in it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from app.evidence import rows
from app.evidence.record import EvidenceRecord
from app.settings import Settings
from app.signing.keys import ensure_signing_key, read_signing_keys
from app.store.core.identifiers import Prefix, format_id, new_id, parse_id
from app.store.core.sessions import sync_engine
from app.store.operations import OperationStatus
from app.store.tenants import Tenant
from app.store.text_sets import TextSet
from tests.http_api import client_of, make_key
from tests.integration.evidence import TEXTS, scored_audit, toy
from tests.integration.rows import add_edit

UNFINISHED = [
    OperationStatus.QUEUED,
    OperationStatus.RUNNING,
    OperationStatus.FAILED,
    OperationStatus.CANCELLED,
]


@pytest.fixture
def settings(database_url: str, broker_url: str, tmp_path: Path) -> Settings:
    ensure_signing_key(tmp_path / "keys")
    return Settings(database_url=database_url, broker_url=broker_url, signing_keys=tmp_path / "keys")


@pytest.fixture
async def audit(client: httpx.AsyncClient, settings: Settings) -> str:
    return await scored_audit(client, settings)


@pytest.fixture
async def reader_of_texts(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    key = make_key(settings, scopes=("audit:read", "audit:evidence"))
    async with client_of(app, key) as client:
        yield client


def lines(record: EvidenceRecord) -> Iterator[bytes]:
    """A line for each row, and for each of the worst texts."""
    for audit in record.principal_audits:
        for row in record.rows(audit.resource.id):
            text = row.text and row.text.text
            yield json.dumps([row.score.ordinal, row.member, text]).encode() + b"\n"
    for worst in record.worst:
        text = worst.row.text and worst.row.text.text
        yield json.dumps([worst.row.score.ordinal, text, record.resource.metadata]).encode() + b"\n"


async def read_lines(client: httpx.AsyncClient, audit: str, **params: str) -> list[list[object]]:
    answer = await client.get(f"/v1/audits/{audit}/evidence/toy", params=params)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_every_format_of_finished_work_is_listed_and_given(
    client: httpx.AsyncClient, audit: str
) -> None:
    page = (await client.get(f"/v1/audits/{audit}/evidence")).json()
    assert not page["has_more"]
    assert [each["name"] for each in page["data"]] == sorted(each["name"] for each in page["data"])
    assert all(each["available"] for each in page["data"])
    for each in page["data"]:
        answer = await client.get(f"/v1/audits/{audit}/evidence/{each['name']}")
        assert answer.status_code == 200, (each, answer.text)
        assert answer.headers["content-type"].partition(";")[0] == each["media_type"].partition(";")[0]
        named = answer.headers["content-disposition"]
        assert named.startswith('attachment; filename="')
        assert audit.replace("_", "") in named.replace("_", "")
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("status", UNFINISHED)
async def test_unfinished_work_has_no_evidence(
    client: httpx.AsyncClient, settings: Settings, status: OperationStatus
) -> None:
    audit = await scored_audit(client, settings, status)
    listed = (await client.get(f"/v1/audits/{audit}/evidence")).json()["data"]
    assert not any(each["available"] for each in listed)
    answer = await client.get(f"/v1/audits/{audit}/evidence/in-toto")
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/evidence-not-ready")
    assert status in answer.json()["detail"]


async def test_what_is_not_there_is_not_found(
    client: httpx.AsyncClient, audit: str, settings: Settings
) -> None:
    """A format that there is not, work that there is not, and another tenant's work."""
    unknown = await client.get(f"/v1/audits/{audit}/evidence/Marzipan")
    assert (unknown.status_code, "Marzipan" in unknown.text) == (404, False)
    assert "in-toto" in unknown.json()["detail"]
    for path in (
        f"/v1/audits/{format_id(Prefix.AUDIT, new_id())}/evidence",
        f"/v1/studies/{audit}/evidence/in-toto",
        f"/v1/gates/{format_id(Prefix.GATE, new_id())}/evidence/in-toto",
    ):
        assert (await client.get(path)).status_code == 404, path


async def test_evidence_belongs_to_its_tenant(app: FastAPI, audit: str, settings: Settings) -> None:
    key = make_key(settings, tenant="other", scopes=("admin",))
    async with client_of(app, key) as stranger:
        for path in ("", "/in-toto"):
            answer = await stranger.get(
                f"/v1/audits/{audit}/evidence{path}", params={"texts": "full"} if path else {}
            )
            assert answer.status_code == 404


@pytest.mark.parametrize(
    ("scopes", "status"), [(("edit:read",), 403), (("audit:read",), 403), (("audit:read", "edit:read"), 409)]
)
async def test_the_evidence_of_an_edit_holds_rows_of_audits(
    app: FastAPI, client: httpx.AsyncClient, settings: Settings, scopes: tuple[str, ...], status: int
) -> None:
    """So it takes the scopes for both; an edit that has not ended is a 409 for whoever has them."""
    engine = sync_engine(settings.require_database_url())
    with Session(engine) as session, session.begin():
        tenant = session.scalars(select(Tenant.id).where(Tenant.name == "acme")).one()
        edit = format_id(Prefix.EDIT, add_edit(session, tenant).id)
    engine.dispose()
    async with client_of(app, make_key(settings, scopes=scopes)) as reader:
        assert (await reader.get(f"/v1/edits/{edit}/evidence/in-toto")).status_code == status


async def test_rows_hold_texts_only_if_the_scope_and_the_request_say_so(
    client: httpx.AsyncClient,
    reader_of_texts: httpx.AsyncClient,
    audit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy(monkeypatch, render=lines)
    monkeypatch.setattr(rows, "_PAGE_ROWS", 10)
    expected = [[place, place % 2 == 0, None] for place in range(len(TEXTS))]
    worst = [[place, None, {}] for place in range(len(TEXTS) - 1, 4, -1)]
    for some in (client, reader_of_texts):
        assert await read_lines(some, audit) == [*expected, *worst]

    refused = await client.get(f"/v1/audits/{audit}/evidence/toy", params={"texts": "full"})
    assert (refused.status_code, "zebra" in refused.text) == (403, False)

    full = await read_lines(reader_of_texts, audit, texts="full")
    assert full[: len(TEXTS)] == [[place, place % 2 == 0, text] for place, text in enumerate(TEXTS)]
    assert full[len(TEXTS)] == [24, TEXTS[24], {"note": TEXTS[0]}]


async def test_texts_are_gone_from_evidence_once_they_are_erased(
    client: httpx.AsyncClient,
    reader_of_texts: httpx.AsyncClient,
    audit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    toy(monkeypatch, render=lines)
    text_set = (await client.get(f"/v1/audits/{audit}")).json()["text_set"]
    before = await reader_of_texts.get(f"/v1/audits/{audit}/evidence/toy", params={"texts": "full"})
    assert (await client.delete(f"/v1/text-sets/{text_set}")).status_code == 200
    after = await read_lines(reader_of_texts, audit, texts="full")
    assert after[: len(TEXTS)] == [[place, None, None] for place in range(len(TEXTS))]
    tag = before.headers["etag"]
    again = await reader_of_texts.get(
        f"/v1/audits/{audit}/evidence/toy", params={"texts": "full"}, headers={"If-None-Match": tag}
    )
    assert again.status_code == 200


async def test_pages_are_read_as_the_document_is_sent(
    app: FastAPI, client: httpx.AsyncClient, audit: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a document of many texts takes no more memory than one of a page."""
    read: list[int] = []
    read_scores = rows.read_scores
    monkeypatch.setattr(rows, "_PAGE_ROWS", 10)
    monkeypatch.setattr(rows, "read_scores", lambda *given: read.append(given[2]) or read_scores(*given))
    seen: list[tuple[int, int]] = []

    def watched(record: EvidenceRecord) -> Iterator[bytes]:
        for place, _ in enumerate(record.rows(record.work.id)):
            seen.append((place, len(read)))
            yield b"."

    toy(monkeypatch, render=watched)
    assert (await client.get(f"/v1/audits/{audit}/evidence/toy")).content == b"." * len(TEXTS)
    assert seen == [(place, 1 + place // 10) for place in range(len(TEXTS))]
    assert read == [0, 10, 20, 25]


async def test_rendering_leaves_the_loop_free(
    client: httpx.AsyncClient, audit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()
    ended: list[float] = []

    def slow(record: EvidenceRecord) -> bytes:
        time.sleep(1.0)
        ended.append(time.monotonic())
        return b""

    toy(monkeypatch, render=slow)
    document = asyncio.create_task(client.get(f"/v1/audits/{audit}/evidence/toy"))
    while not ended and time.monotonic() < began + 0.5:
        assert (await client.get("/healthz")).status_code == 200
        await asyncio.sleep(0.02)
    assert not ended
    assert (await document).status_code == 200


async def test_a_document_that_one_has_is_not_sent_again(client: httpx.AsyncClient, audit: str) -> None:
    path = f"/v1/audits/{audit}/evidence/in-toto"
    first = await client.get(path)
    tag = first.headers["etag"]
    assert (await client.get(path)).content == first.content
    same = await client.get(path, headers={"If-None-Match": tag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    head = await client.head(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", tag)
    assert head.headers["content-type"] == first.headers["content-type"]


async def test_a_new_key_gives_a_new_document(
    client: httpx.AsyncClient, audit: str, settings: Settings
) -> None:
    path = f"/v1/audits/{audit}/evidence/in-toto"
    first = await client.get(path)
    published = (await client.get("/.well-known/memaudit-keys.json")).json()["keys"]
    assert [each["kid"] for each in published] == [first.json()["signatures"][0]["keyid"]]
    (file,) = settings.signing_keys_directory.iterdir()
    file.unlink()
    ensure_signing_key(settings.signing_keys_directory)
    second = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert second.status_code == 200
    assert second.json()["payload"] == first.json()["payload"]
    (key,) = read_signing_keys(settings.signing_keys_directory).public
    assert second.json()["signatures"][0]["keyid"] == key.key_id


async def test_an_instance_without_a_key_says_what_to_set(
    client: httpx.AsyncClient, audit: str, settings: Settings
) -> None:
    for file in settings.signing_keys_directory.iterdir():
        file.unlink()
    listed = (await client.get(f"/v1/audits/{audit}/evidence")).json()["data"]
    assert {each["available"] for each in listed if each["name"] == "in-toto"} == {False}
    for path in (f"/v1/audits/{audit}/evidence/in-toto", "/.well-known/memaudit-keys.json"):
        answer = await client.get(path)
        assert answer.status_code == 503
        assert answer.json()["type"].endswith("/signing-unavailable")
        assert "MEMAUDIT_SIGNING_KEYS" in answer.json()["detail"]
        assert str(settings.signing_keys_directory) not in answer.text


async def test_a_record_is_of_one_snapshot(
    app: FastAPI, client: httpx.AsyncClient, audit: str, settings: Settings
) -> None:
    """What is committed between two statements is not seen, and nothing can be written."""
    identifier = parse_id(Prefix.TEXT_SET, (await client.get(f"/v1/audits/{audit}")).json()["text_set"])
    engine = sync_engine(settings.require_database_url())

    def rename(session: Session, name: str = "other") -> None:
        session.get_one(TextSet, identifier).name = name
        session.flush()

    def read_twice(session: Session) -> list[str]:
        statement = select(TextSet.name).where(TextSet.id == identifier)
        first = session.scalars(statement).one()
        with Session(engine) as other, other.begin():
            rename(other)
        return [first, session.scalars(statement).one()]

    assert await app.state.store.read(read_twice) == ["set", "set"]
    assert await app.state.store.run(read_twice) == ["other", "other"]
    with Session(engine) as session, session.begin():
        rename(session, "set")
    assert await app.state.store.run(read_twice) == ["set", "other"]
    engine.dispose()
    with pytest.raises(DBAPIError, match="read-only"):
        await app.state.store.read(rename, "third")
