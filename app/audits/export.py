"""All scores of an audit as a file, streamed with flat memory.

A row has the fields of a listed score. JSON lines hold the same objects as the list. CSV and Parquet have a
column for each field, in the same order whatever was measured: the object of a metric is one column of JSON
text, and what is null is an empty cell or a null.

JSON lines and Parquet are exact. A spreadsheet takes a CSV cell that begins with `=` and the like for a
formula, so `text_id` and `group` get a quote in front of such a beginning (OWASP, CSV injection).
"""

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy.orm import Session

from app.audits.score_schemas import ScoreOut
from app.contracts.metrics.registry import METRICS
from app.store.audits import Audit
from app.store.core.unit_of_work import Store
from app.store.score_findings import read_findings
from app.store.score_pages import list_scores
from app.store.scores import ScoreOrder

Pages: TypeAlias = AsyncIterator[list[ScoreOut]]
Encoder: TypeAlias = Callable[[Pages], AsyncIterator[bytes]]

LIST_MEDIA_TYPES: Final = ("application/json", "application/*", "*/*")
REFUSED_WEIGHT: Final = re.compile(r"q\s*=\s*0(\.0*)?")
# So few that others are answered between two pages.
PAGE_ROWS: Final = 250
ROW_GROUP_ROWS: Final = 20_000
# What the client chose, and how spreadsheets tell a formula (full-width forms too).
CLIENT_TEXT: Final = ("text_id", "group")
FORMULA: Final = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
COLUMNS: Final = tuple(ScoreOut.model_fields)
PARQUET_SCHEMA: Final = pa.schema(
    [
        pa.field("text_id", pa.string(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        ("group", pa.string()),
        ("duplicates", pa.int64()),
        pa.field("n_tokens", pa.int32(), nullable=False),
        pa.field("n_bytes", pa.int32(), nullable=False),
        pa.field("n_windows", pa.int32(), nullable=False),
        ("log_likelihood", pa.float64()),
        ("nl", pa.float64()),
        ("nl_byte", pa.float64()),
        ("perplexity", pa.float64()),
        *((name, pa.string()) for name in METRICS),
        ("p_value", pa.float64()),
        ("q_value", pa.float64()),
        ("verdict", pa.string()),
        ("equivalent_duplicates", pa.float64()),
        ("equivalent_low", pa.float64()),
        ("equivalent_high", pa.float64()),
        ("error", pa.string()),
    ]
)


def choose_export(accept: str) -> str | None:
    """The first type of an Accept header that scores come in; None when it is the JSON list."""
    for item in accept.lower().split(","):
        media_type, *parameters = (part.strip() for part in item.split(";"))
        if any(REFUSED_WEIGHT.fullmatch(parameter) for parameter in parameters):
            continue
        if media_type in EXPORT_MEDIA_TYPES:
            return media_type
        if media_type in LIST_MEDIA_TYPES:
            return None
    return None


def stream_scores(
    store: Store, audit: Audit, media_type: str, group: str | None = None
) -> AsyncIterator[bytes]:
    """The score rows of a succeeded audit in the order of its texts, in one of EXPORT_MEDIA_TYPES."""
    return EXPORT_MEDIA_TYPES[media_type](_pages(store, audit, group))


async def _pages(store: Store, audit: Audit, group: str | None) -> Pages:
    """All rows, a page a transaction: they do not change any more, and a slow reader holds no connection."""
    after: tuple[None, int] | None = None
    while rows := await store.run(_read_page, audit, group, after):
        yield rows
        after = (None, rows[-1].ordinal)


def _read_page(
    session: Session, audit: Audit, group: str | None, after: tuple[None, int] | None
) -> list[ScoreOut]:
    rows = list_scores(session, audit.id, order=ScoreOrder.ORDINAL, group=group, after=after, limit=PAGE_ROWS)
    findings = read_findings(session, audit.id, rows)
    return [ScoreOut.of(row, findings.get(row.ordinal)) for row in rows]


async def _json_lines(pages: Pages) -> AsyncIterator[bytes]:
    async for rows in pages:
        yield b"".join(row.model_dump_json().encode() + b"\n" for row in rows)


async def _csv(pages: Pages) -> AsyncIterator[bytes]:
    yield _csv_lines([COLUMNS])
    async for rows in pages:
        yield _csv_lines(_harmless(_flatten(row)).values() for row in rows)


def _harmless(cells: dict[str, object]) -> dict[str, object]:
    """The cells of a row, none of which a spreadsheet takes for a formula."""
    formulas = {name for name in CLIENT_TEXT if isinstance(text := cells[name], str) and FORMULA.match(text)}
    return {name: f"'{cell}" if name in formulas else cell for name, cell in cells.items()}


def _csv_lines(lines: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


async def _parquet(pages: Pages) -> AsyncIterator[bytes]:
    sink = io.BytesIO()
    # As columns: rows of Python's own objects take ten times as much.
    pending: list[pa.Table] = []
    with pq.ParquetWriter(sink, PARQUET_SCHEMA, compression="zstd") as writer:
        async for rows in pages:
            pending.append(pa.Table.from_pylist(list(map(_flatten, rows)), PARQUET_SCHEMA))
            if sum(map(len, pending)) >= ROW_GROUP_ROWS:
                writer.write_table(pa.concat_tables(pending))
                pending = []
                yield _drain(sink)
        if pending:
            writer.write_table(pa.concat_tables(pending))
    yield _drain(sink)


def _flatten(row: ScoreOut) -> dict[str, object]:
    """The cells of a row, with objects as JSON text."""
    return {
        column: orjson.dumps(value).decode() if isinstance(value, dict) else value
        for column, value in row.model_dump().items()
    }


def _drain(sink: io.BytesIO) -> bytes:
    """Take what was written; Parquet's writer counts its offsets itself."""
    written = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return written


EXPORT_MEDIA_TYPES: Final[dict[str, Encoder]] = {
    "application/jsonl": _json_lines,
    "text/csv": _csv,
    "application/vnd.apache.parquet": _parquet,
}
