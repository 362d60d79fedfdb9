"""Audits, their score rows and the token evidence behind them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    Text,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.core.base import Base, JSONObject
from app.store.operations import Operation
from app.store.text_sets import TextRow

_GROUPED: Final = text('"group" IS NOT NULL')
_ROWS_AT_ONCE: Final = 1000


class Audit(Operation):
    """One text set scored under one language model."""

    __tablename__ = "audits"
    noun = "audit"

    text_set_id: Mapped[UUID] = mapped_column(ForeignKey("text_sets.id"), index=True)
    priority: Mapped[int] = mapped_column(default=0)
    texts_total: Mapped[int]
    texts_done: Mapped[int] = mapped_column(default=0)
    text_set_sha256: Mapped[str] = mapped_column(Text)
    # What stood before the texts, as a worker found it for the language model (null until it has scored).
    prefix_token: Mapped[JSONObject | None]
    summary: Mapped[JSONObject | None]

    @classmethod
    def uses_text_set(cls, text_set_id: UUID) -> ColumnElement[bool]:
        """The condition that an audit scores the texts of a set."""
        return cls.text_set_id == text_set_id


class Score(Base):
    """The numbers of one text under one audit. Null numbers come with an `error`."""

    __tablename__ = "scores"
    __table_args__ = (
        Index("ix_scores_audit_id_nl", "audit_id", "nl", "ordinal"),
        # Texts without a group are never listed by one, and cost nothing here.
        Index("ix_scores_audit_id_group", "audit_id", "group", "ordinal", postgresql_where=_GROUPED),
        Index("ix_scores_audit_id_group_nl", "audit_id", "group", "nl", "ordinal", postgresql_where=_GROUPED),
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


class TokenEvidence(Base):
    """Per-token arrays of one text, packed little-endian: 4-byte items, one per token.

    `spans` holds the start and end of each token in the text, in characters.
    """

    __tablename__ = "token_evidence"

    audit_id: Mapped[UUID] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    token_ids: Mapped[bytes] = mapped_column(LargeBinary)
    log_likelihoods: Mapped[bytes] = mapped_column(LargeBinary)
    ranks: Mapped[bytes] = mapped_column(LargeBinary)
    spans: Mapped[bytes] = mapped_column(LargeBinary)


class ScoreOrder(StrEnum):
    """In which order scores are listed."""

    ORDINAL = "ordinal"  # as the texts were uploaded
    NL_ASCENDING = "nl"  # least memorized first
    NL_DESCENDING = "-nl"  # most memorized first


def read_evidence(
    session: Session, audit_id: UUID, text_set_id: UUID, text_id: str
) -> tuple[TokenEvidence, str] | None:
    """The token evidence of a text with the text itself; None when there is none."""
    statement = (
        select(TokenEvidence, TextRow.text)
        .join(TextRow, TextRow.ordinal == TokenEvidence.ordinal)
        .where(
            TokenEvidence.audit_id == audit_id,
            TextRow.text_set_id == text_set_id,
            TextRow.text_id == text_id,
        )
    )
    row = session.execute(statement).one_or_none()
    return None if row is None else (row[0], row[1])


@dataclass(frozen=True, slots=True)
class ScoreFacts:
    """What a summary needs of one score row; `metrics` holds an object for each metric that was asked for."""

    group: str | None
    duplicates: int | None
    n_tokens: int
    log_likelihood: float | None
    nl: float | None
    nl_byte: float | None
    metrics: JSONObject


def read_score_facts(session: Session, audit_id: UUID) -> Iterator[ScoreFacts]:
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
        )
        .where(Score.audit_id == audit_id)
        .order_by(Score.ordinal)
        .execution_options(yield_per=_ROWS_AT_ONCE)
    )
    return (ScoreFacts(*row) for row in session.execute(statement))


def record_prefix_token(session: Session, audit_id: UUID, prefix_token: JSONObject) -> None:
    """Say what stood before the texts of an audit."""
    session.execute(update(Audit).where(Audit.id == audit_id).values(prefix_token=prefix_token))


def copy_scores(session: Session, rows: Iterable[tuple[object, ...]]) -> None:
    """Append score rows in the session's transaction, each a tuple in the order of the columns."""
    _copy(session, Score, rows)


def copy_evidence(session: Session, rows: Iterable[tuple[object, ...]]) -> None:
    """Append token evidence, each row a tuple in the order of the table's columns."""
    _copy(session, TokenEvidence, rows)


def _copy(session: Session, table: type[Base], rows: Iterable[tuple[object, ...]]) -> None:
    columns = [column.name for column in table.__table__.columns]
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.__tablename__), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    driver_connection = session.connection().connection.driver_connection
    assert isinstance(driver_connection, psycopg.Connection)
    with driver_connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
