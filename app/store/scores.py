"""The score rows of audits, written by COPY and read back. They hold numbers, never a text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Text,
    and_,
    literal_column,
    select,
    text,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.core.base import Base, JSONObject
from app.store.texts import TextRow

_GROUPED: Final = text('"group" IS NOT NULL')
_RECITED: Final = text("(metrics -> 'extraction' ->> 'strict') = 'true'")
_ROWS_AT_ONCE: Final = 1000


class Score(Base):
    """The numbers of one text under one audit. Null numbers come with an `error`."""

    __tablename__ = "scores"
    __table_args__ = (
        Index("ix_scores_audit_id_nl", "audit_id", "nl", "ordinal"),
        # Texts without a group are never listed by one, and cost nothing here.
        Index("ix_scores_audit_id_group", "audit_id", "group", "ordinal", postgresql_where=_GROUPED),
        Index("ix_scores_audit_id_group_nl", "audit_id", "group", "nl", "ordinal", postgresql_where=_GROUPED),
        Index("ix_scores_recited", "audit_id", "nl", "ordinal", postgresql_where=_RECITED),
        # Infinity and NaN sort above every other double, so this leaves finite numbers only.
        CheckConstraint(
            "error IS NOT NULL OR (nl > '-Infinity' AND nl < 'Infinity' "
            "AND log_likelihood > '-Infinity' AND log_likelihood < 'Infinity' "
            "AND nl_byte > '-Infinity' AND nl_byte < 'Infinity' AND perplexity < 'Infinity')",
            name="finite",
        ),
    )

    audit_id: Mapped[UUID] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    text_id: Mapped[str] = mapped_column(Text)
    group: Mapped[str | None] = mapped_column(Text)
    duplicates: Mapped[int | None] = mapped_column(BigInteger)
    n_tokens: Mapped[int]
    n_bytes: Mapped[int]
    n_windows: Mapped[int]
    log_likelihood: Mapped[float | None] = mapped_column(Double)
    nl: Mapped[float | None] = mapped_column(Double)
    nl_byte: Mapped[float | None] = mapped_column(Double)
    perplexity: Mapped[float | None] = mapped_column(Double)
    metrics: Mapped[JSONObject]
    error: Mapped[str | None] = mapped_column(Text)


class ScoreOrder(StrEnum):
    """In which order scores are listed."""

    ORDINAL = "ordinal"  # as the texts were uploaded
    NL_ASCENDING = "nl"  # least memorized first
    NL_DESCENDING = "-nl"  # most memorized first


def read_scores(session: Session, audit_id: UUID, start: int, stop: int) -> list[Score]:
    """The score rows of the texts with start <= ordinal < stop, in order."""
    statement = select(Score).where(Score.audit_id == audit_id, Score.ordinal >= start, Score.ordinal < stop)
    return list(session.scalars(statement.order_by(Score.ordinal)))


def is_recited() -> ColumnElement[bool]:
    """The condition that a text's whole suffix is recited, as the index of such rows has it."""
    return literal_column(_RECITED.text, Boolean)


def find_score(session: Session, audit_id: UUID, text_id: str, ordinal: int | None) -> Score | None:
    """The score row of a text; found by its place where that is known, else among all rows of the audit."""
    if ordinal is not None:
        return session.get(Score, (audit_id, ordinal))
    statement = select(Score).where(Score.audit_id == audit_id, Score.text_id == text_id).limit(1)
    return session.scalars(statement).one_or_none()


def iterate_token_counts(session: Session, audit_id: UUID) -> Iterator[int]:
    """How many tokens of each text an audit scored, in the order of the texts."""
    statement = select(Score.n_tokens).where(Score.audit_id == audit_id).order_by(Score.ordinal)
    return iter(session.scalars(statement.execution_options(yield_per=_ROWS_AT_ONCE)))


@dataclass(frozen=True, slots=True)
class ScoreFacts:
    """What a summary needs of one score row, and of its text: whether that is a member.

    `metrics` holds an object for each metric that was asked for.
    """

    group: str | None
    duplicates: int | None
    n_tokens: int
    log_likelihood: float | None
    nl: float | None
    nl_byte: float | None
    metrics: JSONObject
    member: bool | None = None


def read_score_facts(session: Session, audit_id: UUID, text_set_id: UUID) -> Iterator[ScoreFacts]:
    """The facts of an audit's rows in order, read from the database as they are asked for."""
    statement = (
        select(
            Score.group,
            Score.duplicates,
            Score.n_tokens,
            Score.log_likelihood,
            Score.nl,
            Score.nl_byte,
            Score.metrics,
            TextRow.member,
        )
        .outerjoin(TextRow, and_(TextRow.text_set_id == text_set_id, TextRow.ordinal == Score.ordinal))
        .where(Score.audit_id == audit_id)
        .order_by(Score.ordinal)
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    return (ScoreFacts(*row) for row in session.execute(statement))


@dataclass(frozen=True, slots=True)
class UnknownCount:
    """A text whose number of insertions is not known."""

    ordinal: int
    group: str | None
    nl: float


def read_unknown_counts(session: Session, audit_id: UUID) -> Iterator[UnknownCount]:
    """The scored texts of unknown count in order, read from the database as they are asked for."""
    statement = (
        select(Score.ordinal, Score.group, Score.nl)
        .where(Score.audit_id == audit_id, Score.duplicates.is_(None), Score.nl.is_not(None))
        .order_by(Score.ordinal)
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    rows = session.execute(statement)
    return (UnknownCount(ordinal, group, nl) for ordinal, group, nl in rows if nl is not None)


@dataclass(frozen=True, slots=True)
class ComparedFacts:
    """What a comparison of audits needs of one score row; `strict` is of the metric `extraction`."""

    group: str | None
    duplicates: int | None
    n_tokens: int
    nl: float | None
    strict: bool | None


def read_compared_facts(session: Session, audit_id: UUID) -> Iterator[ComparedFacts]:
    """The facts of an audit's rows in order, read from the database as they are asked for."""
    strict = Score.metrics["extraction"]["strict"].as_boolean()
    statement = (
        select(Score.group, Score.duplicates, Score.n_tokens, Score.nl, strict)
        .where(Score.audit_id == audit_id)
        .order_by(Score.ordinal)
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    return (ComparedFacts(*row) for row in session.execute(statement))


@dataclass(frozen=True, slots=True)
class StudiedScore:
    """What a study shows of one score row; `strict` is of the metric `extraction`."""

    audit_id: UUID
    ordinal: int
    text_id: str
    group: str | None
    duplicates: int | None
    nl: float | None
    strict: bool | None


def read_side_by_side(
    session: Session, audit_ids: Sequence[UUID], *, after: int, limit: int
) -> list[StudiedScore]:
    """The scores of several audits of one text set for the texts after an ordinal, by ordinal."""
    strict = Score.metrics["extraction"]["strict"].as_boolean()
    statement = (
        select(Score.audit_id, Score.ordinal, Score.text_id, Score.group, Score.duplicates, Score.nl, strict)
        .where(Score.audit_id.in_(audit_ids), Score.ordinal > after, Score.ordinal <= after + limit)
        .order_by(Score.ordinal)
    )
    return [StudiedScore(*row) for row in session.execute(statement)]


def text_ids_at(session: Session, audit_id: UUID, ordinals: Sequence[int]) -> dict[int, str]:
    """The ids of an audit's texts at some places of their set."""
    statement = select(Score.ordinal, Score.text_id).where(
        Score.audit_id == audit_id, Score.ordinal.in_(ordinals)
    )
    return {row.ordinal: row.text_id for row in session.execute(statement)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """A row of `scores` to write, with a value for each of its columns."""

    audit_id: UUID
    ordinal: int
    text_id: str
    group: str | None
    duplicates: int | None
    n_tokens: int
    n_bytes: int
    n_windows: int
    log_likelihood: float | None
    nl: float | None
    nl_byte: float | None
    perplexity: float | None
    metrics: JSONObject
    error: str | None


class _Row(Protocol):
    """A dataclass whose fields are called as the columns are."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def copy_scores(session: Session, rows: Iterable[ScoreRow]) -> None:
    """Append score rows in the session's transaction."""
    copy_rows(session, Score, ScoreRow, rows)


def copy_rows(session: Session, table: type[Base], row_type: type[_Row], rows: Iterable[_Row]) -> None:
    """Append rows in the session's transaction.

    The statement names the columns in the order of the row's fields, whatever the table's order is.
    """
    columns = [field.name for field in fields(row_type)]
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.__tablename__), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    driver_connection = session.connection().connection.driver_connection
    assert isinstance(driver_connection, psycopg.Connection)
    with driver_connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([_cell(getattr(row, column)) for column in columns])


def _cell(value: object) -> object:
    return Jsonb(value) if isinstance(value, dict) else value
