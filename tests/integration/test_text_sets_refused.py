"""Uploads that are refused: the place is named, the text is not repeated, and nothing is stored."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from starlette.types import Message

from app.errors import FieldError, ServiceUnavailable
from app.intake.formats import read_parquet
from app.settings import Settings
from app.text_sets.submission import receive
from tests.http_api import client_of, make_key, running_app

JSON = "application/json"
JSONL = "application/jsonl"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
CANARY = "canary-7f3a9"
MAX_JSON = 40_000
MAX_UPLOAD = 100_000
PARQUET_CHOICES = pa.schema([("text", pa.string()), ("choices", pa.list_(pa.string()))])


def parquet(*rows: dict[str, Any]) -> bytes:
    output = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), output)
    return output.getvalue()


def parquet_of_bad_utf8() -> bytes:
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
    )
    output = io.BytesIO()
    pq.write_table(pa.table({"text": bad}), output)
    return output.getvalue()


def parquet_of_repeated(size: int, rows: int) -> bytes:
    """Rows that share a text, which is stored once."""
    output = io.BytesIO()
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a" * size]))
    pq.write_table(pa.table({"text": shared}), output, compression="zstd")
    return output.getvalue()


def parquet_of_long_choices(size: int, choices: int) -> bytes:
    output = io.BytesIO()
    rows = [{"text": "a"}, {"text": "a", "choices": ["a" * size] * choices}]
    pq.write_table(pa.Table.from_pylist(rows, PARQUET_CHOICES), output, compression="zstd")
    return output.getvalue()


def parquet_of_far_dates(kind: pa.DataType, value: int) -> bytes:
    width = pa.int32() if pa.types.is_date32(kind) else pa.int64()
    output = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array([value], width).view(kind)}), output)
    return output.getvalue()


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


GOOD = '{"text":"' + CANARY + '"}\n'
# media type, body, where, what
REFUSED: list[tuple[str, bytes | str, str, str]] = [
    (JSONL, "", "", "empty_text_set"),
    (JSONL, "\n \n", "", "empty_text_set"),
    (JSONL, GOOD * 2 + '{"text":"' + CANARY, "/lines/3", "json_invalid"),
    (JSONL, GOOD + '{"text":"' + CANARY + '\\ud800"}', "/lines/2", "json_invalid"),
    (JSONL, GOOD.encode() + b'{"text":"\xff"}', "/lines/2", "json_invalid"),
    (JSONL, '{"text":"a","metadata":{"x":NaN}}', "/lines/1", "json_invalid"),
    (JSONL, '{"text":"a","metadata":{"x":1e400}}', "/lines/1", "json_invalid"),
    (JSONL, '["' + CANARY + '"]', "/lines/1", "model_type"),
    (JSONL, "null", "/lines/1", "model_type"),
    (JSONL, '{"text":"' + CANARY + '\\u0000"}', "/lines/1/text", "nul_character"),
    (JSONL, '{"text":7}', "/lines/1/text", "string_type"),
    (JSONL, '{"duplicates":1}', "/lines/1", "missing_text"),
    (JSONL, '{"prefix":"a"}', "/lines/1", "incomplete_split"),
    (JSONL, '{"text":"abc","prefix":"a","suffix":"' + CANARY + '"}', "/lines/1", "split_mismatch"),
    (JSONL, '{"text":"a","id":"no spaces"}', "/lines/1/id", "string_pattern_mismatch"),
    (JSONL, '{"text":"a","duplicates":-1}', "/lines/1/duplicates", "greater_than_equal"),
    (JSONL, '{"text":"a","duplicates":1.0}', "/lines/1/duplicates", "int_type"),
    (JSONL, '{"text":"a","duplicates":99999999999999999999}', "/lines/1/duplicates", "int_type"),
    (JSONL, '{"text":"a","member":1}', "/lines/1/member", "bool_type"),
    (JSONL, '{"text":"a","group":""}', "/lines/1/group", "string_too_short"),
    (JSONL, '{"text":"a","choices":["x"],"answer":1}', "/lines/1", "answer_out_of_range"),
    (JSONL, '{"text":"a","choices":["x","y\\u0000"]}', "/lines/1/choices/1", "nul_character"),
    (JSONL, '{"text":"a","' + CANARY + '":1}', "/lines/1", "extra_forbidden"),
    (
        JSONL,
        json.dumps({"text": "a"} | {f"{CANARY}{i}": 1 for i in range(99)}),
        "/lines/1",
        "extra_forbidden",
    ),
    (JSONL, '{"text":"a","metadata":{"' + CANARY + '":"\\u0000"}}', "/lines/1/metadata", "nul_character"),
    (JSONL, '{"text":"a","metadata":' + nested(21) + "}", "/lines/1/metadata", "metadata_too_deep"),
    (JSONL, '{"text":"a","metadata":' + nested(254) + "}", "/lines/1/metadata", "metadata_too_deep"),
    (JSONL, '{"text":"a","metadata":' + nested(5000) + "}", "/lines/1", "json_invalid"),
    (
        JSONL,
        json.dumps({"text": "a", "metadata": {"x": CANARY * 1500}}),
        "/lines/1/metadata",
        "metadata_too_large",
    ),
    (JSONL, '{"text":"a","id":"x"}\n{"text":"b","id":"x"}', "", "duplicate_id"),
    (JSONL, '{"text":"a","id":"1"}\n{"text":"b"}', "", "duplicate_id"),
    (JSONL, '{"text":"' + CANARY * 200 + '"}', "/lines/1/text", "text_too_long"),
    (JSONL, GOOD * 51, "/lines/51", "too_many_texts"),
    (JSONL, GOOD + '{"text":"' + CANARY * 4000 + '"}', "/lines/2", "record_too_large"),
    (CSV, "", "", "empty_text_set"),
    (CSV, "text\n", "", "empty_text_set"),
    (CSV, "text," + CANARY + "\na,b\n", "/columns/1", "unknown_column"),
    (CSV, "text,text\na,b\n", "/columns/1", "duplicate_column"),
    (CSV, "text\n" + CANARY + "," + CANARY + "\n", "/lines/2", "too_many_cells"),
    (CSV, 'text\n"' + CANARY, "/lines/2", "csv_invalid"),
    (CSV, 'text\n"a"b\n', "/lines/2", "csv_invalid"),
    (CSV, b"text\na\n" + CANARY.encode() + b"\xff\n", "/lines/3", "utf8_invalid"),
    (CSV, "text,group\n\n,g\n", "/lines/3", "missing_text"),
    (CSV, 'text,id\n"a\nb",x\nc, \n', "/lines/4/id", "string_pattern_mismatch"),
    (CSV, "text,member\na," + CANARY + "\n", "/lines/2/member", "bool_type"),
    (CSV, "text,duplicates\na,4.0\n", "/lines/2/duplicates", "int_type"),
    (CSV, "text,metadata\na,[1]\n", "/lines/2/metadata", "dict_type"),
    (CSV, "text\n" + CANARY + "\0\n", "/lines/2/text", "nul_character"),
    (CSV, "text\n" + CANARY * 4000, "/lines/2", "record_too_large"),
    (PARQUET, "", "", "parquet_invalid"),
    (PARQUET, CANARY * 10, "", "parquet_invalid"),
    (PARQUET, parquet({"text": CANARY})[:-20], "", "parquet_invalid"),
    (PARQUET, parquet_of_bad_utf8(), "", "parquet_invalid"),
    (PARQUET, parquet_of_repeated(MAX_JSON + 1, 1), "/rows/0", "record_too_large"),
    (PARQUET, parquet_of_long_choices(1000, 41), "/rows/1", "record_too_large"),
    (PARQUET, parquet_of_far_dates(pa.date32(), 2**30), "", "parquet_invalid"),
    (PARQUET, parquet_of_far_dates(pa.timestamp("us"), 2**62), "", "parquet_invalid"),
    (PARQUET, parquet_of_far_dates(pa.timestamp("us", tz="No/Where"), 5), "", "parquet_invalid"),
    (PARQUET, parquet(), "", "empty_text_set"),
    (PARQUET, parquet({"text": "a", CANARY: 1}), "/columns/1", "unknown_column"),
    (PARQUET, parquet({"text": "a"}, {"text": None}), "/rows/1", "missing_text"),
    (PARQUET, parquet({"text": b"bytes"}), "/rows/0/text", "string_type"),
    (PARQUET, parquet({"text": CANARY + "\0"}), "/rows/0/text", "nul_character"),
    (PARQUET, parquet({"text": "a", "duplicates": 1.5}), "/rows/0/duplicates", "int_type"),
    (PARQUET, parquet({"text": "a", "metadata": {"x": float("nan")}}), "/rows/0/metadata", "finite_number"),
    (JSON, '{"name":"s","texts":[]}', "/texts", "too_short"),
    (JSON, '{"name":"s"}', "/texts", "missing"),
    (JSON, '{"texts":[{"text":"a"}]}', "/name", "missing"),
    (JSON, '{"name":"","texts":[{"text":"a"}]}', "/name", "string_too_short"),
    (JSON, '{"name":"' + CANARY + '\\u0000","texts":[{"text":"a"}]}', "/name", "nul_character"),
    (JSON, '{"name":"s","texts":{"' + CANARY + '":1}}', "/texts", "list_type"),
    (JSON, '{"name":"s","texts":[{"text":"a"},{"text":["' + CANARY + '"]}]}', "/texts/1/text", "string_type"),
    (JSON, '{"name":"s","texts":[{"text":"a"}],"' + CANARY + '":1}', "", "extra_forbidden"),
    (JSON, '{"name":"s","texts":[{"text":"a"}],"metadata":{"x":"\\u0000"}}', "/metadata", "nul_character"),
    (JSON, json.dumps({"name": "s", "texts": [], **dict.fromkeys("abcdef", CANARY)}), "", "extra_forbidden"),
    (JSON, '["' + CANARY + '"]', "", "model_type"),
]


@pytest.fixture
async def small(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service with small limits."""
    limits = {
        "max_texts": 50,
        "max_text_chars": 1000,
        "max_json_bytes": MAX_JSON,
        "max_upload_bytes": MAX_UPLOAD,
    }
    limited = settings.model_copy(update=limits)
    async with running_app(limited) as app, client_of(app, make_key(settings)) as client:
        yield client


async def send(client: httpx.AsyncClient, media_type: str, body: bytes | str) -> httpx.Response:
    params = {} if media_type == JSON else {"name": "set"}
    return await client.post(
        "/v1/text-sets", content=body, params=params, headers={"Content-Type": media_type}
    )


def assert_nothing_stored(database: psycopg.Connection) -> None:
    rows = database.execute(
        "SELECT (SELECT count(*) FROM text_sets), (SELECT count(*) FROM texts)"
    ).fetchone()
    assert rows == (0, 0)


def assert_silent(response: httpx.Response, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither the answer nor the log repeats what was sent."""
    logged = capfd.readouterr()
    for place in (response.text, str(response.headers), logged.out, logged.err):
        assert CANARY not in place


@pytest.mark.parametrize("media_type", [JSON, JSONL, CSV, PARQUET])
async def test_a_bad_text_is_pointed_at(
    small: httpx.AsyncClient,
    database: psycopg.Connection,
    capfd: pytest.CaptureFixture[str],
    subtests: pytest.Subtests,
    media_type: str,
) -> None:
    for kind, body, pointer, code in REFUSED:
        if kind != media_type:
            continue
        with subtests.test(body=body[:100], pointer=pointer, code=code):
            response = await send(small, media_type, body)
            assert response.status_code == 422, response.text
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["errors"] == [{"pointer": pointer, "code": code}]
            assert_nothing_stored(database)
            assert_silent(response, capfd)


def test_a_text_that_many_rows_share_is_read_once() -> None:
    size = 2**19
    before = pa.total_allocated_bytes()
    body = io.BytesIO(parquet_of_repeated(size, 3000))
    for place, row in enumerate(read_parquet(body, size - 1)):
        assert row == FieldError(f"/rows/{place}", "record_too_large")
        assert pa.total_allocated_bytes() - before < 8 * size
    assert place == 2999


async def test_what_is_not_strict_json_is_a_bad_request(
    small: httpx.AsyncClient,
    database: psycopg.Connection,
    capfd: pytest.CaptureFixture[str],
    subtests: pytest.Subtests,
) -> None:
    for body in ("", "{", CANARY, '{"name":"\\ud800"}', b'{"name":"\xff"}', '{"x":NaN}', nested(5000)):
        with subtests.test(body=body[:100]):
            response = await send(small, JSON, body)
            assert (response.status_code, response.json()["status"]) == (400, 400)
            assert_nothing_stored(database)
            assert_silent(response, capfd)


async def test_the_first_hundred_errors_are_told(small: httpx.AsyncClient) -> None:
    lines = [GOOD.strip() if i % 2 else '{"text":1}' for i in range(500)]
    response = await send(small, JSONL, "\n".join(lines))
    expected = [{"pointer": f"/lines/{2 * i + 1}/text", "code": "string_type"} for i in range(100)]
    assert response.json()["errors"] == expected


async def test_other_content_types_are_refused(
    small: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    for media_type in ("", "text/plain", "multipart/form-data", "application/xml; x=" + CANARY):
        with subtests.test(media_type=media_type):
            response = await send(small, media_type, GOOD)
            assert (response.status_code, response.json()["status"]) == (415, 415)
            assert_silent(response, capfd)


async def test_the_name_stands_in_one_place(
    small: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    for media_type, params, code in (
        (JSONL, {}, "missing"),
        (JSONL, {"name": ""}, "string_too_short"),
        (JSONL, {"name": CANARY * 20}, "string_too_long"),
        (JSONL, {"name": "\0"}, "nul_character"),
        (JSON, {"name": "set"}, "extra_forbidden"),
    ):
        with subtests.test(media_type=media_type, code=code):
            headers = {"Content-Type": media_type}
            response = await small.post("/v1/text-sets", content=GOOD, params=params, headers=headers)
            assert response.status_code == 422
            assert response.json()["errors"] == [{"pointer": "/name", "code": code}]
            assert_silent(response, capfd)


async def test_a_body_over_the_limit_is_too_large(
    small: httpx.AsyncClient,
    database: psycopg.Connection,
    capfd: pytest.CaptureFixture[str],
    subtests: pytest.Subtests,
) -> None:
    for media_type, limit in (
        (JSON, MAX_JSON),
        (JSONL, MAX_UPLOAD),
        (CSV, MAX_UPLOAD),
        (PARQUET, MAX_UPLOAD),
    ):
        with subtests.test(media_type=media_type):
            body = (CANARY * limit)[:limit]
            assert (await send(small, media_type, body)).status_code in {400, 422}
            response = await send(small, media_type, body + "x")
            assert response.status_code == 413, response.text
            assert response.headers["content-type"] == "application/problem+json"
            assert response.json()["request_id"] == response.headers["x-request-id"]
            assert_nothing_stored(database)
            assert_silent(response, capfd)


async def test_a_full_disk_is_unavailability() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield GOOD.encode()

    full = Path("/dev/full").open("wb", buffering=0)  # noqa: ASYNC230, SIM115 - a device, closed below
    with full, pytest.raises(ServiceUnavailable):
        await receive(chunks(), full)


async def test_a_client_that_goes_away_leaves_nothing(
    app: FastAPI, settings: Settings, database: psycopg.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    coming: list[Message] = [
        {"type": "http.request", "body": GOOD.encode() * 1000, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    key = make_key(settings)
    headers = [
        (b"host", b"memaudit"),
        (b"authorization", f"Bearer {key}".encode()),
        (b"content-type", JSONL.encode()),
    ]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/text-sets",
        "query_string": b"name=set",
        "headers": headers,
    }
    await app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert_nothing_stored(database)
    logged = capfd.readouterr().out
    assert CANARY not in logged
    assert "unexpected_error" not in logged
