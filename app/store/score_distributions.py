"""How the NL of an audit's texts is distributed: counted by the database, however many texts there are."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.store.score_findings import ScoreFinding
from app.store.scores import Score


def nl_range(session: Session, audit_ids: Collection[UUID]) -> tuple[float, float] | None:
    """The least and the greatest NL of some audits' texts; None where no text was scored."""
    low, high = session.execute(
        select(func.min(Score.nl), func.max(Score.nl)).where(Score.audit_id.in_(audit_ids))
    ).one()
    return None if low is None or high is None else (low, high)


def count_nl(session: Session, audit_id: UUID, low: float, high: float, bins: int) -> list[int]:
    """How many texts of an audit have an NL in each of `bins` bins of equal width over [low, high]."""
    place = func.width_bucket(Score.nl, low, high, bins)
    statement = (
        select(place, func.count()).where(Score.audit_id == audit_id, Score.nl.is_not(None)).group_by(place)
    )
    return _counts({row[0]: row[1] for row in session.execute(statement)}, bins)


def count_p_values(session: Session, audit_id: UUID, bins: int) -> list[int]:
    """How many texts of an audit have a p-value in each of `bins` bins of equal width over [0, 1]."""
    place = func.width_bucket(ScoreFinding.p_value, 0, 1, bins)
    statement = (
        select(place, func.count())
        .where(ScoreFinding.audit_id == audit_id, ScoreFinding.p_value.is_not(None))
        .group_by(place)
    )
    return _counts({row[0]: row[1] for row in session.execute(statement)}, bins)


def _counts(by_place: dict[int, int], bins: int) -> list[int]:
    """The counts of all bins; what lies at the upper end has a place of its own and counts in the last."""
    counts = [by_place.get(place, 0) for place in range(1, bins + 1)]
    counts[-1] += by_place.get(bins + 1, 0)
    return counts
