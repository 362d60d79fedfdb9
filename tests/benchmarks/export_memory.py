"""What the API holds while it exports many score rows."""

import time
from typing import Final
from uuid import UUID

import httpx
import psutil
import psycopg

from app.store.core.identifiers import Prefix, format_id, new_id
from tests.benchmarks.limits import Line

MOST_GROWTH_MEGABYTES: Final = 50
FEW: Final = 1000
TYPES: Final = ("application/jsonl", "text/csv", "application/vnd.apache.parquet")

_AUDIT: Final = """
    INSERT INTO audits (id, tenant_id, language_model_id, text_set_id, status, priority, spec, texts_total,
                        texts_done, text_set_sha256, metadata)
    SELECT %(id)s, tenant_id, language_model_id, text_set_id, 'succeeded', 0, spec, %(rows)s, %(rows)s,
           text_set_sha256, '{}'
    FROM audits WHERE status = 'running' LIMIT 1
"""
_SCORES: Final = """
    INSERT INTO scores (audit_id, ordinal, text_id, n_tokens, n_bytes, n_windows, log_likelihood, nl, nl_byte,
                        perplexity, metrics)
    SELECT %(id)s, n, 'text-' || n, 40, 160, 1, -40 * (n %% 1000 + 1) / 300.0, -(n %% 1000 + 1) / 300.0,
           -(n %% 1000 + 1) / 1200.0, exp((n %% 1000 + 1) / 300.0),
           '{"extraction": {"status": "scaled", "prefix_tokens": 20, "suffix_tokens": 20, "strict": false,
             "similarity": 0.25, "loose": false, "matched_tokens": 1}}'
    FROM generate_series(0, %(rows)s - 1) AS n
"""


def measure_export(client: httpx.Client, database_url: str, api: psutil.Process, rows: int) -> Line:
    """Export so many rows in every format; by how much the API's memory grew at most.

    A few rows come first: what writes a format is loaded when it is first used.
    """
    few, many = (add_scored_audit(database_url, count) for count in (FEW, rows))
    grown = 0.0
    for media_type in TYPES:
        path = f"/v1/audits/{format_id(Prefix.AUDIT, few)}/scores"
        client.get(path, headers={"Accept": media_type}, timeout=600).raise_for_status()
        path = f"/v1/audits/{format_id(Prefix.AUDIT, many)}/scores"
        before, began, received = api.memory_info().rss, time.perf_counter(), 0
        most = before
        with client.stream("GET", path, headers={"Accept": media_type}, timeout=600) as response:
            response.raise_for_status()
            for number, block in enumerate(response.iter_raw()):
                received += len(block)
                if number % 20 == 0:
                    most = max(most, api.memory_info().rss)
        growth = (max(most, api.memory_info().rss) - before) / 1e6
        grown = max(grown, growth)
        seconds = time.perf_counter() - began
        print(
            f"  {rows} rows as {media_type}: {received / 1e6:.0f} MB in {seconds:.0f} s, "
            f"{rows / seconds:.0f} rows/s, {growth:+.1f} MB in the API",
            flush=True,
        )
    return Line(
        f"Export of {rows} rows: growth of the API's memory",
        f"{grown:.1f} MB",
        f"below {MOST_GROWTH_MEGABYTES} MB",
        grown < MOST_GROWTH_MEGABYTES,
    )


def add_scored_audit(database_url: str, rows: int) -> UUID:
    """An audit of the tenant whose audit is running, with so many rows."""
    audit = new_id()
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        for statement in (_AUDIT, _SCORES):
            connection.execute(statement, {"id": audit, "rows": rows})
    return audit
