"""Counts that only rise, of the whole instance: what workers, which listen on no port, have to tell.

They are added after the fact and apart from it, so that nobody who claims or finishes a job waits for a row
that all write to. A process that is killed takes what it has not added yet with it.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from sqlalchemy import Text, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.store.core.base import Base

# Waits of jobs until they are claimed, in seconds; the last bucket takes the rest.
CLAIM_BUCKETS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)
_REST: Final = "+Inf"
# Whoever stands still and holds a row must not hold up the others: they leave out what they have counted.
LOCK_TIMEOUT: Final = text("SET LOCAL lock_timeout = '1s'")

CLAIM_SECONDS: Final = "claim_seconds"
CLAIMS: Final = "claims"
LOST_LEASES: Final = "lost_leases"
RETRIES: Final = "retries"
TOKENS: Final = "tokens"


class Count(NamedTuple):
    """What is counted, and of what: `labels` hold no tenant, no name and no text."""

    name: str
    labels: tuple[str, ...]


class Counts:
    """Counts that are collected until they are added."""

    def __init__(self) -> None:
        self._values: dict[Count, float] = {}

    def add(self, counts: Mapping[Count, float]) -> None:
        """Count something more."""
        for count, value in counts.items():
            self._values[count] = self._values.get(count, 0.0) + value

    def take(self) -> dict[Count, float]:
        """All of it, in one order, so that no two who add it wait for each other. None is left."""
        values, self._values = dict(sorted(self._values.items())), {}
        return values


class CounterRow(Base):
    """One count."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    labels: Mapped[list[str]] = mapped_column(ARRAY(Text), primary_key=True)
    value: Mapped[float]


def of_claim(queue: str, seconds: float) -> Mapping[Count, float]:
    """A claim of a job that could have been claimed for so many seconds."""
    bucket = next((str(each) for each in CLAIM_BUCKETS if seconds <= each), _REST)
    return {Count(CLAIMS, (queue, bucket)): 1, Count(CLAIM_SECONDS, (queue,)): seconds}


def of_retry(kind: str, reason: str, times: int = 1) -> Mapping[Count, float]:
    """Attempts at jobs of a kind that ended without a result and are followed by another; why, in a word."""
    return {Count(RETRIES, (kind, reason)): times}


def of_lost_lease(kind: str) -> Mapping[Count, float]:
    """A worker that lives and finds that its job was given to another."""
    return {Count(LOST_LEASES, (kind,)): 1}


def of_tokens(kind: str, tokens: float) -> Mapping[Count, float]:
    """Tokens that went through a language model for a job of a kind, as estimates count them."""
    return {Count(TOKENS, (kind,)): tokens}


def add_counts(session: Session, counts: Counts) -> None:
    """Add what was collected.

    Raises:
        sqlalchemy.exc.OperationalError: somebody holds one of the rows for longer than a second.
    """
    session.execute(LOCK_TIMEOUT)
    statement = insert(CounterRow)
    statement = statement.on_conflict_do_update(
        index_elements=["name", "labels"], set_={"value": CounterRow.value + statement.excluded.value}
    )
    for count, value in counts.take().items():
        session.execute(statement.values(name=count.name, labels=list(count.labels), value=value))


def read_counts(session: Session) -> dict[Count, float]:
    """All counts."""
    rows = session.execute(select(CounterRow.name, CounterRow.labels, CounterRow.value))
    return {Count(name, tuple(labels)): value for name, labels, value in rows}
