"""What is known of a text only once all are scored: how it compares with others. It holds no text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, Text, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.core.base import Base
from app.store.scores import Score, copy_rows

_JUDGED: Final = text("q_value IS NOT NULL")


class ScoreFinding(Base):
    """What an audit found of one text by comparing it. A text of which nothing was found has no row."""

    __tablename__ = "score_findings"
    __table_args__ = (
        Index("ix_score_findings_q_value", "audit_id", "q_value", "ordinal", postgresql_where=_JUDGED),
        CheckConstraint(
            "p_value > 0 AND p_value <= 1 AND q_value > 0 AND q_value <= 1", name="probabilities"
        ),
    )

    audit_id: Mapped[UUID] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    p_value: Mapped[float | None] = mapped_column(Double)
    q_value: Mapped[float | None] = mapped_column(Double)
    verdict: Mapped[str | None] = mapped_column(Text)
    # `nl` less that under the reference model.
    reference: Mapped[float | None] = mapped_column(Double)
    equivalent_duplicates: Mapped[float | None] = mapped_column(Double)
    equivalent_low: Mapped[float | None] = mapped_column(Double)
    equivalent_high: Mapped[float | None] = mapped_column(Double)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRow:
    """A row of `score_findings` to write, with a value for each of its columns."""

    audit_id: UUID
    ordinal: int
    p_value: float | None = None
    q_value: float | None = None
    verdict: str | None = None
    reference: float | None = None
    equivalent_duplicates: float | None = None
    equivalent_low: float | None = None
    equivalent_high: float | None = None


def copy_findings(session: Session, rows: Iterable[FindingRow]) -> None:
    """Append findings in the session's transaction."""
    copy_rows(session, ScoreFinding, FindingRow, rows)


def read_findings(session: Session, audit_id: UUID, scores: Sequence[Score]) -> dict[int, ScoreFinding]:
    """What was found of some texts of an audit, by their places; read by key, however many there are."""
    statement = select(ScoreFinding).where(
        ScoreFinding.audit_id == audit_id, ScoreFinding.ordinal.in_([score.ordinal for score in scores])
    )
    return {row.ordinal: row for row in session.scalars(statement)}
