"""Summing an audit up from its rows in Postgres: whole, and with flat memory however many rows there are."""

import math
import tracemalloc
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.errors import ScoresMissing
from app.store.audits import Audit
from app.store.jobs.leases import Lease
from app.store.lifecycle import complete_shard
from app.store.score_findings import ScoreFinding
from app.store.scores import copy_scores, read_score_facts
from tests.integration.rows import add_audit_rows, add_tenant, score_row
from tests.own_worker import run_next
from workers.audits.summarize import Summary, summarize_audit
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.metrics.extraction import extraction_metric
from workers.science.metrics.sampling import sampling_metric
from workers.science.metrics.splits import Split

Sessions = sessionmaker[Session]
SUFFIX = np.zeros(48, dtype=np.int64)


def add_rows(sessions: Sessions, tenant: str, *, texts: int, rows: int) -> UUID:
    """An audit of so many texts of which so many have a row."""
    split = Split("ok", 64, 48)
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session, tenant), texts=texts)
        copy_scores(
            session,
            (
                score_row(
                    audit.id,
                    ordinal,
                    -1.0 - (ordinal % 7) / 10,
                    group="group",
                    duplicates=ordinal % 3,
                    metrics={
                        "extraction": extraction_metric(split, 48 - ordinal % 2, None, SUFFIX),
                        "p_z": sampling_metric(split, -1.0 - ordinal % 5),
                    },
                )
                for ordinal in range(rows)
            ),
        )
        return audit.id


def test_rows_are_read_and_summed_up_without_being_held(sessions: Sessions) -> None:
    found = {}
    peaks = {}
    for rows in (2000, 20_000):
        audit_id = add_rows(sessions, f"tenant-{rows}", texts=rows, rows=rows)
        with sessions() as session:
            tracemalloc.start()
            summary = Summary()
            text_set_id = session.get_one(Audit, audit_id).text_set_id
            for fact in read_score_facts(session, audit_id, text_set_id):
                summary.add(fact)
            peaks[rows] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        found[rows] = summary.result()
    assert peaks[20_000] < peaks[2000] + 2**20
    result = found[20_000]
    assert (result["texts"], result["tokens"]) == (20_000, 200_000)
    assert result["log_likelihood"] == sum(-10.0 - ordinal % 7 for ordinal in range(20_000))
    assert (result["strict"]["count"], result["strict"]["n"]) == (10_000, 20_000)
    assert result["extraction_splits"] == {"ok": 20_000, "scaled": 0, "not_applicable": 0}
    assert result["p_z"]["log_p_z"]["mean"] == pytest.approx(-3.0)
    assert [level["nl"]["n"] for level in result["dose_response"]] == [6667, 6667, 6666]


def test_texts_of_unknown_count_are_worth_what_the_fit_of_the_known_ones_says(
    sessions: Sessions, runtime: Runtime
) -> None:
    """More than are read at once; nothing for texts of known count or without numbers."""
    scatter = np.linspace(-0.01, 0.01, 8)
    known = [(level, -4 + math.log1p(level) / 4 + step) for level in (0, 3, 15) for step in scatter]
    unknown = [(None, -4 + math.log1p(7) / 4), (None, None), (None, -9.0)] * 400
    facts = [*known, *unknown]
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session, "acme"), texts=len(facts))
        rows = (
            score_row(audit.id, place, nl, duplicates=level, group="g" if place % 3 else None)
            for place, (level, nl) in enumerate(facts)
        )
        copy_scores(session, rows)
        complete_shard(session, audit.id, len(facts))
    assert run_next(runtime) == "summarize_audit"
    with sessions() as session:
        found = session.scalars(select(ScoreFinding).order_by(ScoreFinding.ordinal)).all()
        summary = session.get_one(Audit, audit.id).summary
    assert summary is not None
    assert [fit["group"] for fit in summary["dose_fits"]] == [None]
    assert [row.ordinal for row in found] == [
        place for place, (level, nl) in enumerate(facts) if level is None and nl is not None
    ]
    for row in found:
        worth = (row.equivalent_low, row.equivalent_duplicates, row.equivalent_high)
        if facts[row.ordinal][1] == -9.0:
            assert worth == (0, 0, 0)
        else:
            assert worth[1] == pytest.approx(7)
            assert 3 < worth[0] < 7 < worth[2] < 15


@pytest.mark.parametrize("rows", [0, 2])
def test_an_audit_with_a_text_that_has_no_row_does_not_succeed(sessions: Sessions, rows: int) -> None:
    audit_id = add_rows(sessions, "acme", texts=3, rows=rows)
    runtime = cast("Runtime", SimpleNamespace(sessions=sessions))
    keeper = cast("LeaseKeeper", SimpleNamespace(report=lambda _: None))
    lease = cast("Lease", SimpleNamespace(audit_id=audit_id))
    with pytest.raises(ScoresMissing, match=f"3 texts have {rows} score rows"):
        summarize_audit(runtime, lease, keeper)
