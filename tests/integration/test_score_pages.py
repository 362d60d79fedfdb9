"""Pages of a large audit's scores: each is read from an index at its cursor, and costs like the first."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from app.store.audits import Audit
from app.store.score_pages import list_scores
from app.store.scores import ScoreOrder
from tests.integration.rows import add_audit_rows, add_tenant

ROWS = 200_000
LIMIT = 101
# Blocks: the way down into an index once more, where a page ends with texts that have no number; and,
# where equal numbers lie at the end of a page, their rows again.
SPARE = 10
TURNED = LIMIT + 20
# Of 200,000 texts every tenth has no number and every third of the rest the same one. "common" is half of
# them, the first half; "rare" is one in 997; "last" lies at the end.
FILL = """
INSERT INTO scores (audit_id, ordinal, text_id, "group", n_tokens, n_bytes, n_windows, nl, log_likelihood,
                    nl_byte, perplexity, metrics, error)
SELECT %(audit)s, o, 't' || o,
       CASE WHEN o %% 997 = 7 THEN 'rare' WHEN o < %(rows)s / 2 THEN 'common'
            WHEN o >= %(rows)s * 0.98 THEN 'last' END,
       50, 200, 1, nl, nl * 50, nl / 4, 1, '{}', CASE WHEN nl IS NULL THEN 'no_tokens' END
FROM generate_series(0, %(rows)s - 1) AS o,
     LATERAL (SELECT CASE WHEN o %% 10 = 3 THEN NULL WHEN o %% 3 = 0 THEN -1.5
                          ELSE -8 * abs(sin(o::float8)) END AS nl)
"""
ORACLE = {
    ScoreOrder.ORDINAL: "ordinal",
    ScoreOrder.NL_ASCENDING: "nl ASC NULLS LAST, ordinal",
    ScoreOrder.NL_DESCENDING: "nl DESC NULLS LAST, ordinal",
}
Place = tuple[float | None, int]


class Cost(NamedTuple):
    """What a page's statements do: the nodes of their plans, rows thrown away, blocks touched."""

    nodes: set[str]
    discarded: int
    buffers: int


@pytest.fixture(params=["no statistics", "statistics of before", "statistics"])
def audit(
    sessions: sessionmaker[Session], database: psycopg.Connection, request: pytest.FixtureRequest
) -> Audit:
    """A large audit that the planner knows nothing of, or not yet, or well."""
    with sessions.begin() as session:
        tenant_id = add_tenant(session)
        audits = [add_audit_rows(session, tenant_id, texts=ROWS) for _ in range(20)]
    if request.param == "statistics of before":
        for audit in audits[1:]:
            database.execute(FILL, {"audit": audit.id, "rows": 1000})
        database.execute("VACUUM ANALYZE scores")
    database.execute(FILL, {"audit": audits[0].id, "rows": ROWS})
    if request.param == "statistics":
        database.execute("VACUUM ANALYZE scores")
    return audits[0]


@pytest.fixture
def explained(sessions: sessionmaker[Session]) -> Iterator[list[Cost]]:
    """The cost of each statement that the sessions send, found out in the same transaction."""
    costs: list[Cost] = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
        ((plan,),) = cursor.fetchone()
        if "FROM scores" in statement:
            costs.append(_cost(plan["Plan"]))

    engine = sessions.kw["bind"]
    event.listen(engine, "before_cursor_execute", explain)
    yield costs
    event.remove(engine, "before_cursor_execute", explain)


def _cost(node: dict[str, Any]) -> Cost:
    below = [_cost(child) for child in node.get("Plans", ())]
    discarded = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return Cost(
        {node["Node Type"], *(name for cost in below for name in cost.nodes)},
        discarded + sum(cost.discarded for cost in below),
        node["Shared Hit Blocks"] + node["Shared Read Blocks"],
    )


def _places(database: psycopg.Connection, audit: Audit, order: ScoreOrder, group: str | None) -> list[Place]:
    """All (nl, ordinal) in order: the oracle."""
    rows = database.execute(
        f"SELECT nl, ordinal FROM scores WHERE audit_id = %(audit)s "
        f'AND (%(group)s::text IS NULL OR "group" = %(group)s) ORDER BY {ORACLE[order]}',
        {"audit": audit.id, "group": group},
    )
    return rows.fetchall()


def _depths(places: list[Place]) -> list[int]:
    """Where pages are read: the beginning, all over, among equal numbers, around the last number."""
    count = len(places)
    tied = [depth for depth, (nl, _) in enumerate(places) if nl == -1.5]
    numbers = sum(nl is not None for nl, _ in places)
    deep = {count // 4, count // 2, count * 3 // 4, count - LIMIT, tied[0], tied[0] - 3, tied[len(tied) // 2]}
    deep |= {tied[-1], numbers - 5, numbers, numbers + 5, count}
    return [0, *sorted(depth for depth in deep if 0 < depth <= count)]


def test_a_deep_page_costs_what_the_first_does(
    audit: Audit,
    sessions: sessionmaker[Session],
    database: psycopg.Connection,
    explained: list[Cost],
    subtests: pytest.Subtests,
) -> None:
    """Rows by the oracle; plans of index scans that throw nothing away; blocks as for the first page."""
    for order, group in itertools.product(ScoreOrder, (None, "common", "rare", "last")):
        places = _places(database, audit, order, group)
        first = 0
        for depth in _depths(places):
            with subtests.test(order=order, group=group, depth=depth):
                explained.clear()
                after = places[depth - 1] if depth else None
                with sessions() as session:
                    rows = list_scores(session, audit.id, order=order, group=group, after=after, limit=LIMIT)
                assert [(row.nl, row.ordinal) for row in rows] == places[depth : depth + LIMIT]
                assert {name for cost in explained for name in cost.nodes} <= {"Limit", "Index Scan"}
                assert sum(cost.discarded for cost in explained) == 0
                spent = sum(cost.buffers for cost in explained)
                first = first or spent
                assert spent <= first + (TURNED if order is ScoreOrder.NL_DESCENDING else SPARE)
