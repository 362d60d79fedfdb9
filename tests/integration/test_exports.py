"""All scores of an audit as a file: the same rows as the list, in every format, with flat memory."""

import csv
import io
import json
import math
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audits import export
from app.audits.score_schemas import ScoreOut
from app.settings import Settings
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine
from app.store.operations import OperationStatus
from app.store.score_findings import FindingRow, copy_findings
from app.store.scores import Score
from app.store.tenants import Tenant
from tests.http_api import client_of, make_key
from tests.integration.rows import add_audit_rows

JSONL = "application/jsonl"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
ROWS = 2500
# As a worker writes them; what is not applicable has no more than a status.
EXTRACTION = {"status": "scaled", "prefix_tokens": 3, "suffix_tokens": 3, "strict": False}
EXTRACTION |= {"similarity": 1 / 3, "loose": False, "matched_tokens": 1}
VERBATIM = {"25": {"status": "ok", "suffix_tokens": 50, "strict": True, "matched_tokens": 50}}
VERBATIM["100"] = {"status": "not_applicable"}
SAMPLING = {"status": "ok", "log_p_z": -700.5, "p_z": math.exp(-700.5), "n_50": None, "n_99": None}


def score(audit: Audit, ordinal: int) -> dict[str, Any]:
    """A row with awkward values: quotes and commas, tiny and long numbers, a text without a score."""
    failed = ordinal % 100 == 7
    nl = -math.sqrt(ordinal + 1) / 7
    return {
        "audit_id": audit.id,
        "ordinal": ordinal,
        "text_id": f"text-{ordinal}",
        "group": [None, 'a "quoted", group', "naïve\nline"][ordinal % 3],
        "duplicates": [None, 0, 2**53][ordinal % 3],
        "n_tokens": 0 if failed else 10,
        "n_bytes": ordinal,
        "n_windows": 0 if failed else 1,
        "log_likelihood": None if failed else 10 * nl,
        "nl": None if failed else nl,
        "nl_byte": None if failed else nl / 3e10,
        "perplexity": None if failed else math.exp(-nl),
        "metrics": {} if failed else {"extraction": EXTRACTION, "verbatim": VERBATIM, "p_z": SAMPLING},
        "error": "no_tokens" if failed else None,
    }


def finding(audit: Audit, ordinal: int) -> FindingRow:
    """What was found of every third text."""
    numbers = {"p_value": 1 / 3, "q_value": 1.0, "equivalent_duplicates": 0.1, "equivalent_high": 7.0}
    return FindingRow(audit_id=audit.id, ordinal=ordinal, verdict="not_shown", **numbers)


def add_scored_audit(settings: Settings, tenant: str, rows: int, status: OperationStatus) -> Audit:
    engine = sync_engine(settings.require_database_url())
    with Session(engine, expire_on_commit=False) as session, session.begin():
        tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == tenant)).one()
        audit = add_audit_rows(session, tenant_id, texts=rows)
        audit.status = status
        session.bulk_insert_mappings(Score.__mapper__, [score(audit, ordinal) for ordinal in range(rows)])
        copy_findings(session, (finding(audit, ordinal) for ordinal in range(1, rows, 3)))
    engine.dispose()
    return audit


@pytest.fixture
def audit(client: httpx.AsyncClient, settings: Settings) -> Audit:
    return add_scored_audit(settings, "acme", ROWS, OperationStatus.SUCCEEDED)


def scores_path(audit: Audit) -> str:
    return f"/v1/audits/{format_id(Prefix.AUDIT, audit.id)}/scores"


async def listed(client: httpx.AsyncClient, audit: Audit) -> list[dict[str, Any]]:
    """The rows as the JSON list pages them: the oracle of the exports."""
    rows: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": 1000}
    while True:
        page = (await client.get(scores_path(audit), params=params)).json()
        rows += page["data"]
        if not page["has_more"]:
            return rows
        params["cursor"] = page["next_cursor"]


async def exported(client: httpx.AsyncClient, audit: Audit, media_type: str) -> httpx.Response:
    response = await client.get(scores_path(audit), headers={"Accept": media_type})
    assert response.status_code == 200
    assert response.headers["content-type"].partition(";")[0] == media_type
    return response


def csv_row(cells: dict[str, str]) -> dict[str, Any]:
    """The values of a CSV row by the types of the list."""
    values: dict[str, Any] = {}
    for column, cell in cells.items():
        is_text = column in {"text_id", "group", "verdict", "error"}
        values[column] = None if cell == "" else cell if is_text else json.loads(cell)
    return values


async def test_json_lines_hold_the_listed_objects(client: httpx.AsyncClient, audit: Audit) -> None:
    rows = await listed(client, audit)
    assert len(rows) == ROWS
    body = (await exported(client, audit, JSONL)).text
    assert body.endswith("\n")
    assert [json.loads(line) for line in body.split("\n")[:-1]] == rows


async def test_csv_holds_the_listed_values(client: httpx.AsyncClient, audit: Audit) -> None:
    body = (await exported(client, audit, CSV)).text
    reader = csv.DictReader(io.StringIO(body, newline=""), strict=True)
    assert [csv_row(cells) for cells in reader] == await listed(client, audit)
    assert reader.fieldnames == list(ScoreOut.model_fields)


FORMULAS = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff201",
)
NO_FORMULAS = ("a=1", "1-1", "'=1", " =1", "naïve")


async def test_no_cell_of_a_csv_is_a_formula_and_the_other_formats_are_exact(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    """What begins like a formula gets a quote; numbers that begin with a minus stay numbers."""
    audit = add_scored_audit(settings, "acme", len(FORMULAS + NO_FORMULAS), OperationStatus.SUCCEEDED)
    engine = sync_engine(settings.require_database_url())
    with Session(engine) as session, session.begin():
        for row in session.scalars(select(Score).where(Score.audit_id == audit.id)):
            row.group = (FORMULAS + NO_FORMULAS)[row.ordinal]
            row.text_id = "=+-@"[row.ordinal % 4] + row.text_id
    engine.dispose()
    rows = await listed(client, audit)
    assert [row["group"] for row in rows] == [*FORMULAS, *NO_FORMULAS]
    assert all(row["text_id"][0] in "=+-@" for row in rows)
    body = (await exported(client, audit, CSV)).text
    cells = list(csv.DictReader(io.StringIO(body, newline=""), strict=True))
    assert [cell["text_id"] for cell in cells] == [f"'{row['text_id']}" for row in rows]
    assert [cell["group"] for cell in cells] == [*(f"'{formula}" for formula in FORMULAS), *NO_FORMULAS]
    assert [json.loads(cell["nl"] or "null") for cell in cells] == [row["nl"] for row in rows]
    lines = (await exported(client, audit, JSONL)).text.split("\n")[:-1]
    assert [json.loads(line) for line in lines] == rows
    table = pq.read_table(io.BytesIO((await exported(client, audit, PARQUET)).content))
    for column in ("text_id", "group"):
        assert table[column].to_pylist() == [row[column] for row in rows]


async def test_parquet_holds_the_listed_values(client: httpx.AsyncClient, audit: Audit) -> None:
    table = pq.read_table(io.BytesIO((await exported(client, audit, PARQUET)).content))
    assert table.schema.equals(export.PARQUET_SCHEMA)
    assert table.column_names == list(ScoreOut.model_fields)
    metrics = ("extraction", "verbatim", "p_z")
    rows = [
        row | {metric: json.loads(row[metric]) if row[metric] else None for metric in metrics}
        for row in table.to_pylist()
    ]
    assert rows == await listed(client, audit)


async def test_rows_leave_in_pieces(app: FastAPI, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "ROW_GROUP_ROWS", 2000)
    for media_type in (JSONL, CSV, PARQUET):
        pieces = [piece async for piece in export.stream_scores(app.state.store, audit, media_type)]
        body = b"".join(pieces)
        assert max(map(len, pieces)) < len(body)
        if media_type == PARQUET:
            assert pq.ParquetFile(io.BytesIO(body)).metadata.num_row_groups == 2
            ordinals = pq.read_table(io.BytesIO(body))["ordinal"].combine_chunks()
            assert ordinals.equals(pa.array(range(ROWS), pa.int32()))
        else:
            assert body.count(b"text-") == ROWS


async def test_scores_of_unfinished_audits_are_not_given_out(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    for status in (
        OperationStatus.QUEUED,
        OperationStatus.RUNNING,
        OperationStatus.FAILED,
        OperationStatus.CANCELLED,
    ):
        audit = add_scored_audit(settings, "acme", 5, status)
        for media_type in (JSONL, CSV, PARQUET, "application/json"):
            response = await client.get(scores_path(audit), headers={"Accept": media_type})
            assert (response.status_code, response.json()["status"]) == (409, 409)
            assert response.headers["content-type"] == "application/problem+json"


async def test_exports_belong_to_their_tenant(app: FastAPI, audit: Audit, settings: Settings) -> None:
    async with client_of(app, make_key(settings, tenant="other")) as stranger:
        response = await stranger.get(scores_path(audit), headers={"Accept": CSV})
    assert response.status_code == 404
    assert "text-" not in response.text


async def test_an_export_of_a_group_holds_its_rows(client: httpx.AsyncClient, audit: Audit) -> None:
    group = 'a "quoted", group'
    response = await client.get(scores_path(audit), params={"group": group}, headers={"Accept": JSONL})
    rows = [json.loads(line) for line in response.text.split("\n")[:-1]]
    assert rows == [row for row in await listed(client, audit) if row["group"] == group]


async def test_exports_have_one_order_and_no_pages(
    client: httpx.AsyncClient, audit: Audit, subtests: pytest.Subtests
) -> None:
    for params in (
        {"sort": "nl"},
        {"sort": "-nl"},
        {"limit": 10},
        {"cursor": "x"},
        {"sort": "nl", "cursor": "x"},
    ):
        with subtests.test(params=params):
            response = await client.get(scores_path(audit), params=params, headers={"Accept": CSV})
            assert response.status_code == 422
            expected = [{"pointer": f"/{name}", "code": "not_for_exports"} for name in params]
            assert response.json()["errors"] == expected
    response = await client.get(scores_path(audit), params={"sort": "ordinal"}, headers={"Accept": CSV})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", None),
        ("application/json, text/csv", None),
        ("text/csv, application/json", CSV),
        ("TEXT/CSV; q=0.5", CSV),
        ("text/csv;q=0, application/jsonl;q=0.1", JSONL),
        ("text/csv;q=0.000", None),
        ("text/csv-schema", None),
        ("text/html, application/vnd.apache.parquet", PARQUET),
        ("", None),
    ],
)
def test_the_media_type_is_the_first_accepted(accept: str, media_type: str | None) -> None:
    assert export.choose_export(accept) == media_type
