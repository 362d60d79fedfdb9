"""Score rows counted against a limit: how many there are, how many are above, and which these are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, and_, func, literal, not_, select
from sqlalchemy.orm import Session

from app.store.score_findings import ScoreFinding
from app.store.scores import Score

_SAME_TEXT: Final = and_(ScoreFinding.audit_id == Score.audit_id, ScoreFinding.ordinal == Score.ordinal)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of the rows of an audit.

    Attributes:
        audit_id: whose rows.
        groups: a pattern of groups with `*` and `?`; None for all rows, also those without a group.
        measured: whether a row has the number that is asked for; never null.
        counts: whether it counts against the limit; null for no.
        value: of which the largest is wanted.
        strength: by which those that count are listed, the largest first.
        within: which rows are in scope; None for all.
        undecided: whether its interval leaves open if it counts; None if there are no such intervals.
    """

    audit_id: UUID
    groups: str | None
    measured: ColumnElement[bool]
    counts: ColumnElement[bool]
    value: SQLColumnExpression[float | None]
    strength: SQLColumnExpression[float | None]
    within: ColumnElement[bool] | None = None
    undecided: ColumnElement[bool] | None = None

    def scope(self) -> list[ColumnElement[bool]]:
        """The conditions of rows in scope."""
        conditions = [Score.audit_id == self.audit_id]
        if self.within is not None:
            conditions.append(self.within)
        if self.groups is not None:
            conditions.append(Score.group.like(_as_like(self.groups), escape="\\"))
        return conditions


@dataclass(frozen=True, slots=True)
class ScoreCounts:
    """How many rows in scope have the number, count, have none, are undecided; and the largest value."""

    n: int
    count: int
    unmeasured: int
    undecided: int
    largest: float | None


def count_scores(session: Session, asked: Question) -> ScoreCounts:
    """Count the rows in scope. One statement sees them all."""
    undecided = func.count().filter(asked.undecided) if asked.undecided is not None else literal(0)
    counted = select(
        func.count().filter(asked.measured),
        func.count().filter(asked.measured, asked.counts),
        func.count().filter(not_(asked.measured)),
        undecided,
        func.max(asked.value).filter(asked.measured),
    )
    statement = counted.select_from(Score).outerjoin(ScoreFinding, _SAME_TEXT).where(*asked.scope())
    n, count, unmeasured, open_, largest = session.execute(statement).one()
    return ScoreCounts(n, count, unmeasured, open_, largest)


def texts_that_count(session: Session, asked: Question, *, limit: int) -> Sequence[str]:
    """The ids of the texts that count, by strength, those of equal strength in their order."""
    return _ids(session, asked, and_(asked.measured, asked.counts), asked.strength.desc(), limit=limit)


def texts_unmeasured(session: Session, asked: Question, *, limit: int) -> Sequence[str]:
    """The ids of the texts without the number, in their order."""
    return _ids(session, asked, not_(asked.measured), limit=limit)


def texts_undecided(session: Session, asked: Question, *, limit: int) -> Sequence[str]:
    """The ids of the texts that are undecided, in their order."""
    return () if asked.undecided is None else _ids(session, asked, asked.undecided, limit=limit)


def _ids(
    session: Session,
    asked: Question,
    condition: ColumnElement[bool],
    *order: SQLColumnExpression[float | None],
    limit: int,
) -> Sequence[str]:
    statement = select(Score.text_id).outerjoin(ScoreFinding, _SAME_TEXT).where(*asked.scope(), condition)
    return session.scalars(statement.order_by(*order, Score.ordinal).limit(limit)).all()


def _as_like(pattern: str) -> str:
    """A pattern with `*` and `?` as LIKE has it, where `%`, `_` and the escape stand for themselves."""
    for special in ("\\", "%", "_"):
        pattern = pattern.replace(special, "\\" + special)
    return pattern.replace("*", "%").replace("?", "_")
