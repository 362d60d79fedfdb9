"""Text sets: the same texts in every format, stored as they were sent, listed in order, erased for good."""

import asyncio
import csv
import gc
import hashlib
import io
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.settings import Settings
from app.store.core.identifiers import Prefix, parse_id
from app.store.core.unit_of_work import Store
from app.store.data_keys import keyed_digest
from app.store.operations import OperationStatus
from app.store.tenants import Tenant
from app.store.texts import iterate_text_batches
from tests.http_api import client_of, make_key
from tests.integration.rows import add_audit

JSONL = "application/jsonl"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"

TEXTS: list[dict[str, Any]] = [
    {"id": "plain", "text": "It was the best of times", "duplicates": 4, "group": "copyright/dickens"},
    {"id": "split", "prefix": "naïve ", "suffix": "café\n“✓” 𝄞", "duplicates": 0, "member": True},
    {"text": 'a "quoted", comma\r\nand a\ttab', "member": False, "group": "copyright/dickens"},
    {
        "id": "choice",
        "text": "2 + 2 =",
        "choices": ["3", "4, surely", '"5"'],
        "answer": 1,
        "duplicates": 4,
        "metadata": {"source": "b", "deep": {"list": [1, 2.5, None, True]}},
    },
]
FACTS = ("duplicates", "group", "member", "choices", "answer", "metadata")


def full_text(text: dict[str, Any]) -> str:
    return text["prefix"] + text["suffix"] if "prefix" in text else text["text"]


def stored_form(texts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the contract says of each text once it is stored."""
    return [
        {
            "object": "text",
            "id": text.get("id", str(ordinal)),
            "ordinal": ordinal,
            "text": full_text(text),
            "prefix_chars": len(text["prefix"]) if "prefix" in text else None,
            **{fact: text.get(fact) for fact in FACTS},
        }
        for ordinal, text in enumerate(texts)
    ]


def expected_sha256(texts: list[dict[str, Any]]) -> str:
    """The documented digest, by the standard library's JSON."""
    digest = hashlib.sha256()
    for stored in stored_form(texts):
        values = [stored[field] for field in ("id", "text", "prefix_chars", *FACTS)]
        line = json.dumps(values, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def expected_digest(sessions: sessionmaker[Session], texts: list[dict[str, Any]]) -> str:
    """The documented digest under the key of the only tenant."""
    with sessions() as session:
        tenant_id = session.scalars(select(Tenant.id)).one()
        return keyed_digest(session, tenant_id, expected_sha256(texts))


def as_json_lines(texts: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(text) for text in texts).encode()


def as_csv(texts: list[dict[str, Any]]) -> bytes:
    as_json = ("choices", "metadata", "member")
    columns = list(dict.fromkeys(key for text in texts for key in text))
    output = io.StringIO(newline="")
    writer = csv.DictWriter(output, columns)
    writer.writeheader()
    writer.writerows({k: json.dumps(v) if k in as_json else v for k, v in text.items()} for text in texts)
    return output.getvalue().encode()


def as_parquet(texts: list[dict[str, Any]]) -> bytes:
    """`choices` as lists, `metadata` as JSON text, `group` as a category."""
    types = {"duplicates": pa.int64(), "member": pa.bool_(), "answer": pa.int32()}
    types |= {"choices": pa.list_(pa.string()), "group": pa.dictionary(pa.int8(), pa.string())}
    columns = list(dict.fromkeys(key for text in texts for key in text))
    schema = pa.schema([(column, types.get(column, pa.string())) for column in columns])
    rows = [
        text | {"metadata": json.dumps(text["metadata"])} if "metadata" in text else text for text in texts
    ]
    output = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), output, row_group_size=2)
    return output.getvalue()


async def upload(client: httpx.AsyncClient, body: bytes, media_type: str, **headers: str) -> httpx.Response:
    params = {} if media_type.partition(";")[0] == "application/json" else {"name": "set"}
    headers = {"Content-Type": media_type, **headers}
    return await client.post("/v1/text-sets", content=body, params=params, headers=headers)


async def upload_inline(client: httpx.AsyncClient, texts: list[dict[str, Any]]) -> dict[str, Any]:
    response = await client.post("/v1/text-sets", json={"name": "set", "texts": texts})
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", json.dumps({"name": "set", "texts": TEXTS}).encode()),
        ("application/json; charset=utf-8", json.dumps({"name": "set", "texts": TEXTS}).encode()),
        (JSONL, as_json_lines(TEXTS)),
        ("application/x-ndjson", as_json_lines(TEXTS).replace(b"\n", b"\r\n\r\n")),
        (CSV, as_csv(TEXTS)),
        (CSV, b"\xef\xbb\xbf" + as_csv(TEXTS).rstrip()),
        (PARQUET, as_parquet(TEXTS)),
    ],
    ids=["json", "json-charset", "jsonl", "ndjson-crlf", "csv", "csv-bom", "parquet"],
)
async def test_the_same_texts_are_stored_from_every_format(
    client: httpx.AsyncClient, sessions: sessionmaker[Session], media_type: str, body: bytes
) -> None:
    response = await upload(client, body, media_type)
    assert response.status_code == 201, response.text
    answer = response.json()
    assert response.headers["location"] == f"/v1/text-sets/{answer['id']}"
    assert answer["name"] == "set"
    assert answer["hmac_sha256"] == expected_digest(sessions, TEXTS)
    assert answer["text_count"] == len(TEXTS)
    assert answer["byte_count"] == sum(len(full_text(text).encode()) for text in TEXTS)
    assert answer["group_counts"] == Counter(text["group"] for text in TEXTS if "group" in text)
    assert answer["duplicate_counts"] == Counter(
        str(text["duplicates"]) for text in TEXTS if "duplicates" in text
    )
    assert (await client.get(response.headers["location"])).json() == answer
    texts = (await client.get(f"/v1/text-sets/{answer['id']}/texts")).json()
    assert texts == {"object": "list", "data": stored_form(TEXTS), "has_more": False, "next_cursor": None}


async def test_parquet_metadata_may_be_a_struct(client: httpx.AsyncClient) -> None:
    output = io.BytesIO()
    rows = [{"text": "a", "metadata": {"k": 1, "of": ["x"]}}, {"text": "b", "metadata": None}]
    pq.write_table(pa.Table.from_pylist(rows), output)
    response = await upload(client, output.getvalue(), PARQUET)
    texts = (await client.get(f"{response.headers['location']}/texts")).json()["data"]
    assert [text["metadata"] for text in texts] == [{"k": 1, "of": ["x"]}, None]


async def test_metadata_of_the_set_is_kept(client: httpx.AsyncClient) -> None:
    deepest: Any = 1
    for _ in range(19):
        deepest = [deepest]
    metadata = {"run": 7, "notes": ["é", "\\u0000 spelled out"], "deep": deepest}
    response = await client.post("/v1/text-sets", json={"name": "s", "texts": TEXTS, "metadata": metadata})
    assert response.json()["metadata"] == metadata


async def test_the_digest_depends_on_every_fact_and_on_order(
    client: httpx.AsyncClient, sessions: sessionmaker[Session]
) -> None:
    variants = [TEXTS, TEXTS[::-1], TEXTS[:-1]]
    variants += [
        [TEXTS[0] | change, *TEXTS[1:]] for change in ({"duplicates": 5}, {"group": "g"}, {"id": "q"})
    ]
    variants += [[{"prefix": "It was ", "suffix": "the best of times", **TEXTS[0]}, *TEXTS[1:]]]
    digests = {(await upload_inline(client, variant))["hmac_sha256"] for variant in variants}
    assert digests == {expected_digest(sessions, variant) for variant in variants}
    assert len(digests) == len(variants)


async def test_counts_keep_the_first_thousand_distinct_values(client: httpx.AsyncClient) -> None:
    texts = [{"text": "x", "group": f"g{i % 1500}", "duplicates": i} for i in range(1600)]
    answer = await upload_inline(client, texts)
    assert answer["group_counts"] == {f"g{i}": 2 if i < 100 else 1 for i in range(1000)}
    assert answer["duplicate_counts"] == {str(i): 1 for i in range(1000)}


async def test_texts_are_paged_in_order(client: httpx.AsyncClient) -> None:
    texts = [{"text": f"number {i}"} for i in range(25)]
    location = f"/v1/text-sets/{(await upload_inline(client, texts))['id']}/texts"
    seen: list[str] = []
    params: dict[str, Any] = {"limit": 10}
    pages = []
    while True:
        page = (await client.get(location, params=params)).json()
        seen += [text["text"] for text in page["data"]]
        pages.append(len(page["data"]))
        if not page["has_more"]:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == [text["text"] for text in texts]
    assert pages == [10, 10, 5]
    assert page["next_cursor"] is None


async def test_a_page_of_long_texts_is_cut_short(client: httpx.AsyncClient) -> None:
    texts = [{"text": "é" * length} for length in (60_000, 60_000, 500_000, 5)]
    texts.insert(2, {"text": "𝄞" * 280_000})
    texts += [{"text": "short", "metadata": {"long": "x" * 16_000}}] * 70
    location = f"/v1/text-sets/{(await upload_inline(client, texts))['id']}/texts"
    pages: list[list[int]] = []
    params: dict[str, str] = {}
    while not pages or params:
        page = (await client.get(location, params=params)).json()
        pages.append([text["ordinal"] for text in page["data"]])
        params = {"cursor": page["next_cursor"]} if page["has_more"] else {}
    # A page holds 1 MiB at most, unless its only text is longer; é takes two bytes and 𝄞 four.
    assert pages[:2] == [[0, 1], [2]]
    assert [len(page) for page in pages[2:]] == [5, 65, 2]


async def test_sets_are_listed_newest_first_for_their_tenant(
    client: httpx.AsyncClient, app: FastAPI, settings: Settings
) -> None:
    ids = [(await upload_inline(client, [{"text": "x"}]))["id"] for _ in range(3)]
    first = (await client.get("/v1/text-sets", params={"limit": 2})).json()
    rest = (await client.get("/v1/text-sets", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [row["id"] for row in first["data"] + rest["data"]] == ids[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)
    async with client_of(app, make_key(settings, tenant="other")) as stranger:
        assert (await stranger.get("/v1/text-sets")).json()["data"] == []
        for request in (("GET", ""), ("GET", "/texts"), ("DELETE", "")):
            response = await stranger.request(request[0], f"/v1/text-sets/{ids[0]}{request[1]}")
            assert response.status_code == 404
    assert (await client.get(f"/v1/text-sets/{ids[0]}")).status_code == 200


def count(database: psycopg.Connection, table: str) -> int:
    row = database.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])


async def test_erasing_leaves_a_receipt_and_no_text(
    client: httpx.AsyncClient, settings: Settings, database: psycopg.Connection
) -> None:
    kept = await upload_inline(client, TEXTS)
    text_set = await upload_inline(client, TEXTS)
    add_audit(settings, text_set["id"], OperationStatus.SUCCEEDED)
    response = await client.delete(f"/v1/text-sets/{text_set['id']}")
    assert response.status_code == 200
    receipt = response.json()
    assert receipt.pop("deleted_at")
    assert receipt.pop("envelope") is None, "these settings name no key that signs"
    fields = ("id", "name", "hmac_sha256", "text_count", "byte_count")
    assert receipt == {"object": "text_set_receipt", **{field: text_set[field] for field in fields}}
    assert count(database, "texts") == len(TEXTS)
    assert count(database, "token_evidence") == 0
    assert (await client.delete(f"/v1/text-sets/{text_set['id']}")).status_code == 404
    assert (await client.get(f"/v1/text-sets/{text_set['id']}/texts")).status_code == 404
    assert [row["id"] for row in (await client.get("/v1/text-sets")).json()["data"]] == [kept["id"]]


@pytest.mark.parametrize("status", [OperationStatus.QUEUED, OperationStatus.RUNNING])
async def test_a_set_that_unfinished_work_needs_is_not_erased(
    client: httpx.AsyncClient, settings: Settings, database: psycopg.Connection, status: OperationStatus
) -> None:
    text_set = await upload_inline(client, TEXTS)
    add_audit(settings, text_set["id"], status)
    response = await client.delete(f"/v1/text-sets/{text_set['id']}")
    assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (409, "resource-in-use")
    assert count(database, "texts") == len(TEXTS)
    assert count(database, "token_evidence") == 1


async def test_an_idempotency_key_stores_once(
    client: httpx.AsyncClient, database: psycopg.Connection
) -> None:
    body = as_json_lines(TEXTS)
    first = await upload(client, body, JSONL, **{"Idempotency-Key": "k1"})
    again = await upload(client, body, JSONL, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert count(database, "text_sets") == 1
    for other in (
        await upload(client, body + b"\n", JSONL, **{"Idempotency-Key": "k1"}),
        await upload(client, as_csv(TEXTS), CSV, **{"Idempotency-Key": "k1"}),
    ):
        assert (other.status_code, other.json()["type"].rpartition("/")[2]) == (422, "idempotency-mismatch")
    fresh = await upload(client, body, JSONL, **{"Idempotency-Key": "k2"})
    assert fresh.json()["id"] != first.json()["id"]
    assert count(database, "text_sets") == 2


async def test_a_key_in_flight_is_a_conflict(client: httpx.AsyncClient, database: psycopg.Connection) -> None:
    tenant = database.execute("SELECT id FROM tenants").fetchone()
    assert tenant is not None
    with database.transaction():
        database.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{tenant[0]}:k1",))
        response = await upload(client, as_json_lines(TEXTS), JSONL, **{"Idempotency-Key": "k1"})
        assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (
            409,
            "idempotency-in-flight",
        )
    assert count(database, "texts") == 0
    assert (await upload(client, as_json_lines(TEXTS), JSONL, **{"Idempotency-Key": "k1"})).status_code == 201


@pytest.fixture
def small_heap() -> Iterator[None]:
    """Keep the garbage collector from walking through what the test run has imported: a server has less."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("small_heap")
async def test_an_upload_does_not_starve_other_requests(client: httpx.AsyncClient) -> None:
    texts = [{"text": f"a short text, number {i}", "metadata": {"i": i}} for i in range(20_000)]
    body = json.dumps({"name": "set", "texts": texts}).encode()
    uploading = asyncio.create_task(upload(client, body, "application/json"))
    answered = [time.perf_counter()]
    while not uploading.done():
        assert (await client.get("/healthz")).status_code == 200
        await asyncio.sleep(0.001)
        answered.append(time.perf_counter())
    assert uploading.result().status_code == 201
    longest_wait = max(later - earlier for earlier, later in itertools.pairwise(answered))
    assert longest_wait < (answered[-1] - answered[0]) / 4


async def test_uploads_leave_connections_to_others(client: httpx.AsyncClient, app: FastAPI) -> None:
    async with asyncio.timeout(60):
        while not app.state.text_set_writers.locked():
            await app.state.text_set_writers.acquire()
    response = await upload(client, as_json_lines(TEXTS), JSONL)
    assert (response.status_code, response.json()["status"]) == (503, 503)
    assert int(response.headers["retry-after"]) > 0
    app.state.text_set_writers.release()
    assert (await upload(client, as_json_lines(TEXTS), JSONL)).status_code == 201


async def test_batches_of_texts_are_bounded(client: httpx.AsyncClient, app: FastAPI) -> None:
    texts = ["a" * 50, "b" * 40, "é" * 30, "c" * 500, "d"]
    text_set = await upload_inline(client, [{"text": text} for text in texts])
    identifier = parse_id(Prefix.TEXT_SET, text_set["id"])
    assert identifier is not None
    store: Store = app.state.store
    batches = await store.run(
        lambda session: list(iterate_text_batches(session, identifier, batch_size=2, max_bytes=100))
    )
    assert batches == [texts[:2], texts[2:3], texts[3:4], texts[4:]]
    assert await store.run(lambda session: list(iterate_text_batches(session, identifier))) == [texts]
