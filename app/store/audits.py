"""Audits, their score rows and the token evidence behind them."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
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
    and_,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import NotFound
from app.store.base import Base, CreatedAt, JSONObject, PrimaryKey, newest_first, one_of
from app.store.text_sets import TextRow


class WorkStatus(StrEnum):
    """Where long work stands. The last three are terminal."""

    QUEUED = "queued"  # accepted, no worker has begun
    RUNNING = "running"  # a worker has claimed its first job
    SUCCEEDED = "succeeded"  # every text has a row and every number is finite
    FAILED = "failed"  # `error` says why
    CANCELLED = "cancelled"  # the client asked for it


ACTIVE = (WorkStatus.QUEUED, WorkStatus.RUNNING)


class Audit(Base):
    """One text set scored under one language model."""

    __tablename__ = "audits"
    __table_args__ = (
        Index("ix_audits_tenant_id_id", "tenant_id", "id"),
        one_of("status", WorkStatus),
    )

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    language_model_id: Mapped[UUID] = mapped_column(ForeignKey("language_models.id"), index=True)
    text_set_id: Mapped[UUID] = mapped_column(ForeignKey("text_sets.id"), index=True)
    status: Mapped[str] = mapped_column(Text, default=WorkStatus.QUEUED)
    priority: Mapped[int] = mapped_column(default=0)
    spec: Mapped[JSONObject]
    texts_total: Mapped[int]
    texts_done: Mapped[int] = mapped_column(default=0)
    language_model_digest: Mapped[str | None] = mapped_column(Text)
    text_set_sha256: Mapped[str] = mapped_column(Text)
    summary: Mapped[JSONObject | None]
    error: Mapped[JSONObject | None]
    metadata_: Mapped[JSONObject] = mapped_column("metadata", default=dict)
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Score(Base):
    """The numbers of one text under one audit. Null numbers come with an `error`."""

    __tablename__ = "scores"
    __table_args__ = (
        Index("ix_scores_audit_id_nl", "audit_id", "nl", "ordinal"),
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


def is_active() -> ColumnElement[bool]:
    """The condition that an audit has not ended."""
    return Audit.status.in_(ACTIVE)


def get_audit(session: Session, tenant_id: UUID, audit_id: UUID | None) -> Audit:
    """A tenant's audit.

    Raises:
        NotFound: no such audit for this tenant.
    """
    row = session.scalars(
        select(Audit).where(Audit.id == audit_id, Audit.tenant_id == tenant_id)
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such audit.")
    return row


def list_audits(session: Session, tenant_id: UUID, *, before: UUID | None, limit: int) -> list[Audit]:
    """A tenant's audits, newest first, those older than `before`."""
    statement = select(Audit).where(Audit.tenant_id == tenant_id)
    return newest_first(session, statement, Audit.id, before, limit)


def lock_active_audit(session: Session, audit_id: UUID) -> Audit | None:
    """The audit, locked, if it has not ended; else None.

    The lock leaves room for the foreign keys of rows that other shards are writing meanwhile.
    """
    statement = select(Audit).where(Audit.id == audit_id, is_active()).with_for_update(key_share=True)
    return session.scalars(statement.execution_options(populate_existing=True)).one_or_none()


def end_audit(session: Session, audit_id: UUID, status: WorkStatus, error: JSONObject | None = None) -> bool:
    """Bring an audit to its terminal state; False when it had ended before."""
    statement = (
        update(Audit)
        .where(Audit.id == audit_id, is_active())
        .values(status=status, error=error, finished_at=func.clock_timestamp())
        .returning(Audit.id)
    )
    return session.scalar(statement) is not None


def list_scores(
    session: Session,
    audit_id: UUID,
    *,
    order: ScoreOrder,
    group: str | None,
    after: tuple[float | None, int] | None,
    limit: int,
) -> list[Score]:
    """Scores of an audit in order, after the row with (nl, ordinal). Texts without numbers come last."""
    statement = select(Score).where(Score.audit_id == audit_id).limit(limit)
    if group is not None:
        statement = statement.where(Score.group == group)
    if order is ScoreOrder.ORDINAL:
        statement = statement.order_by(Score.ordinal)
    else:
        direction = Score.nl.asc() if order is ScoreOrder.NL_ASCENDING else Score.nl.desc()
        statement = statement.order_by(direction.nulls_last(), Score.ordinal)
    if after is not None:
        statement = statement.where(_after(order, *after))
    return list(session.scalars(statement))


def _after(order: ScoreOrder, nl: float | None, ordinal: int) -> ColumnElement[bool]:
    if order is ScoreOrder.ORDINAL:
        return Score.ordinal > ordinal
    if nl is None:
        return and_(Score.nl.is_(None), Score.ordinal > ordinal)
    beyond = Score.nl > nl if order is ScoreOrder.NL_ASCENDING else Score.nl < nl
    return or_(beyond, and_(Score.nl == nl, Score.ordinal > ordinal), Score.nl.is_(None))


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
    """What a summary needs of one score row."""

    group: str | None
    duplicates: int | None
    n_tokens: int
    log_likelihood: float | None
    nl: float | None
    nl_byte: float | None
    strict: bool | None
    loose: bool | None
    similarity: float | None


def read_score_facts(session: Session, audit_id: UUID) -> tuple[list[ScoreFacts], int]:
    """The facts of an audit's rows in order, and how many rows there must be."""
    extraction = Score.metrics["extraction"]
    statement = (
        select(
            Score.group,
            Score.duplicates,
            Score.n_tokens,
            Score.log_likelihood,
            Score.nl,
            Score.nl_byte,
            extraction["strict"].as_boolean(),
            extraction["loose"].as_boolean(),
            extraction["similarity"].as_float(),
        )
        .where(Score.audit_id == audit_id)
        .order_by(Score.ordinal)
    )
    facts = [ScoreFacts(*row) for row in session.execute(statement)]
    texts_total = session.scalars(select(Audit.texts_total).where(Audit.id == audit_id)).one()
    return facts, texts_total


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
