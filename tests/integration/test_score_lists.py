"""Lists of an audit's scores for readers: by q-value, of recited texts, and counted in bins."""

import math
from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from app.store.score_distributions import count_nl, count_p_values, nl_range
from app.store.score_findings import FindingRow, copy_findings
from app.store.score_pages import list_by_q_value, list_recited
from app.store.scores import Score, copy_scores
from tests.integration.rows import add_audit_rows, add_tenant, score_row

TEXTS = 40
Page = Callable[[tuple[float, int] | None], list[Score]]


@pytest.fixture
def audit_id(sessions: sessionmaker[Session]) -> UUID:
    """An audit in which every fourth text is recited, and all but the last have a q-value; many are equal."""
    with sessions.begin() as session:
        audit = add_audit_rows(session, add_tenant(session), texts=TEXTS)
        copy_scores(
            session,
            [
                score_row(
                    audit.id,
                    place,
                    -(place % 10) / 2,
                    group=f"g{place % 2}",
                    metrics={"extraction": {"strict": place % 4 == 0}},
                )
                for place in range(TEXTS)
            ],
        )
        found = [
            FindingRow(
                audit_id=audit.id, ordinal=place, p_value=(1 + place % 5) / 5, q_value=(1 + place % 5) / 5
            )
            for place in range(TEXTS - 1)
        ]
        copy_findings(session, found)
        return audit.id


def all_pages(page: Page, number: Callable[[Score], float]) -> list[int]:
    """The places of all rows, read seven at a time."""
    places: list[int] = []
    after = None
    while rows := page(after):
        places += [row.ordinal for row in rows]
        after = (number(rows[-1]), rows[-1].ordinal)
    return places


def test_texts_by_q_value(sessions: sessionmaker[Session], audit_id: UUID) -> None:
    def q_value(place: int) -> float:
        return (1 + place % 5) / 5

    for group in (None, "g1"):
        wanted = [place for place in range(TEXTS - 1) if group is None or place % 2 == 1]
        with sessions.begin() as session:
            listed = all_pages(
                lambda after: list_by_q_value(session, audit_id, group=group, after=after, limit=7),  # noqa: B023
                lambda row: q_value(row.ordinal),
            )
        assert listed == sorted(wanted, key=lambda place: (q_value(place), place))


def test_recited_texts(sessions: sessionmaker[Session], audit_id: UUID) -> None:
    def number(row: Score) -> float:
        assert row.nl is not None
        return row.nl

    for group in (None, "g0", "g1"):
        wanted = [place for place in range(0, TEXTS, 4) if group != "g1"]
        with sessions.begin() as session:
            listed = all_pages(
                lambda after: list_recited(session, audit_id, group=group, after=after, limit=3),  # noqa: B023
                number,
            )
        assert listed == sorted(wanted, key=lambda place: (place % 10, -place))


def test_both_are_read_from_their_indexes(sessions: sessionmaker[Session], audit_id: UUID) -> None:
    statements = {
        "ix_scores_recited": "SELECT * FROM scores WHERE audit_id = :id AND "
        "(metrics -> 'extraction' ->> 'strict') = 'true' ORDER BY nl DESC, ordinal DESC LIMIT 7",
        "ix_score_findings_q_value": "SELECT * FROM score_findings WHERE audit_id = :id "
        "AND q_value IS NOT NULL ORDER BY q_value, ordinal LIMIT 7",
    }
    with sessions.begin() as session:
        for name in ("enable_sort", "enable_seqscan", "enable_bitmapscan"):
            session.execute(text(f"SET LOCAL {name} = off"))
        for index, statement in statements.items():
            plan = "\n".join(session.scalars(text(f"EXPLAIN {statement}"), {"id": audit_id}))
            assert index in plan
            assert "Sort" not in plan


def test_scores_are_counted_in_bins(sessions: sessionmaker[Session], audit_id: UUID) -> None:
    """As counting them one by one does; what lies at the upper end is in the last bin."""
    with sessions.begin() as session:
        assert nl_range(session, [audit_id]) == (-4.5, 0.0)
        counted = count_nl(session, audit_id, -4.5, 0.0, 4)
        assert count_p_values(session, audit_id, 5) == [0, 8, 8, 8, 15]
    places = [min(math.floor((-(place % 10) / 2 + 4.5) / 4.5 * 4), 3) for place in range(TEXTS)]
    assert counted == [places.count(place) for place in range(4)]
