"""Pages of an audit's scores. Each is read from an index at its cursor: however deep, it costs the same."""

from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Text, and_, any_, func, literal, select, tuple_
from sqlalchemy.orm import Session

from app.store.score_findings import ScoreFinding
from app.store.scores import Score, ScoreOrder, is_recited

_BEFORE_ALL = -1  # an ordinal
_SORTING = ("enable_sort", "enable_incremental_sort")


def list_scores(
    session: Session,
    audit_id: UUID,
    *,
    order: ScoreOrder,
    group: str | None,
    after: tuple[float | None, int] | None,
    limit: int,
) -> list[Score]:
    """Scores of an audit in order, after the row with (nl, ordinal).

    Equal values come by ordinal, texts without numbers last.
    """
    _read_in_order(session)
    scores = _Scores(session, audit_id, group)
    nl, ordinal = after or (None, _BEFORE_ALL)
    if order is ScoreOrder.ORDINAL:
        return scores.by_ordinal(ordinal, limit)
    rows: list[Score] = []
    if after is None or nl is not None:
        read = scores.rising if order is ScoreOrder.NL_ASCENDING else scores.falling
        rows = read(nl, ordinal, limit)
        ordinal = _BEFORE_ALL
    return rows + scores.unscored(ordinal, limit - len(rows))


def list_by_q_value(
    session: Session, audit_id: UUID, *, group: str | None, after: tuple[float, int] | None, limit: int
) -> list[Score]:
    """Scores of an audit that have a q-value, the least first, after the row with (q_value, ordinal).

    Of one group it reads past the rows of others.
    """
    _read_in_order(session)
    statement = (
        select(Score)
        .join(
            ScoreFinding,
            and_(ScoreFinding.audit_id == Score.audit_id, ScoreFinding.ordinal == Score.ordinal),
        )
        .where(ScoreFinding.audit_id == audit_id, ScoreFinding.q_value.is_not(None))
        .order_by(ScoreFinding.q_value, ScoreFinding.ordinal)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(tuple_(ScoreFinding.q_value, ScoreFinding.ordinal) > tuple_(*after))
    if group is not None:
        statement = statement.where(Score.group == group)
    return list(session.scalars(statement))


def list_recited(
    session: Session, audit_id: UUID, *, group: str | None, after: tuple[float, int] | None, limit: int
) -> list[Score]:
    """Scores of an audit's texts that are recited exactly, most memorized first, after the row (nl, ordinal).

    Of one group it reads past the rows of others.
    """
    _read_in_order(session)
    statement = (
        select(Score)
        .where(Score.audit_id == audit_id, is_recited())
        .order_by(Score.nl.desc(), Score.ordinal.desc())
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(tuple_(Score.nl, Score.ordinal) < tuple_(*after))
    if group is not None:
        statement = statement.where(Score.group == group)
    return list(session.scalars(statement))


def _read_in_order(session: Session) -> None:
    """Let an index give the order.

    While statistics do not know an audit yet, the planner takes it for small and would sort all of it.
    """
    session.execute(select(*(func.set_config(name, "off", True) for name in _SORTING)))  # noqa: FBT003


class _Scores:
    """The scores of an audit, or of one group of it, read in runs that one index has in order."""

    def __init__(self, session: Session, audit_id: UUID, group: str | None) -> None:
        self._session = session
        self._conditions: list[ColumnElement[bool]] = [Score.audit_id == audit_id]
        self._leading: list[ColumnElement[str | None]] = []
        if group is not None:
            # Were it a plain equality, any index of the audit would be in order, and the planner might take
            # one that leads through the rows of all groups.
            self._conditions.append(Score.group == any_(literal([group], ARRAY(Text))))
            self._leading.append(Score.group.expression)

    def by_ordinal(self, ordinal: int, limit: int) -> list[Score]:
        """Those after an ordinal."""
        return self._read(limit, Score.ordinal > ordinal, by=[Score.ordinal.expression])

    def rising(self, nl: float | None, ordinal: int, limit: int, *, most: float | None = None) -> list[Score]:
        """Those with a number of at `most` so much, by (nl, ordinal), after a place or from the first on."""
        beyond = (
            Score.nl.is_not(None) if nl is None else tuple_(Score.nl, Score.ordinal) > tuple_(nl, ordinal)
        )
        conditions = [beyond] if most is None else [beyond, Score.nl <= most]
        return self._read(limit, *conditions)

    def falling(self, nl: float | None, ordinal: int, limit: int) -> list[Score]:
        """Those with a number by (-nl, ordinal), after a place or from the first on.

        The index of `rising`, read backwards, has equal numbers in the wrong order. Those that lie within
        the page are turned round here; those at its two ends are read forwards.
        """
        rows = [] if nl is None else self.rising(nl, ordinal, limit, most=nl)
        below = Score.nl.is_not(None) if nl is None else Score.nl < nl
        lower = self._read(limit - len(rows), below, backwards=True)
        if not lower:
            return rows
        last = lower[-1].nl
        whole = [row for row in lower if row.nl != last]
        rows += sorted(whole, key=lambda row: (-(row.nl or 0), row.ordinal))
        return rows + self.rising(last, _BEFORE_ALL, len(lower) - len(whole), most=last)

    def unscored(self, ordinal: int, limit: int) -> list[Score]:
        """Those without a number, after an ordinal."""
        return self._read(limit, Score.nl.is_(None), Score.ordinal > ordinal)

    def _read(
        self,
        limit: int,
        *conditions: ColumnElement[bool],
        by: list[ColumnElement[int]] | None = None,
        backwards: bool = False,
    ) -> list[Score]:
        if limit == 0:
            return []
        keys = [*self._leading, *(by or (Score.nl, Score.ordinal))]
        statement = select(Score).where(*self._conditions, *conditions).limit(limit)
        return list(
            self._session.scalars(
                statement.order_by(*(key.desc() if backwards else key.asc() for key in keys))
            )
        )
