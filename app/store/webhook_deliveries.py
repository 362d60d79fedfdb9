"""The outbox of webhooks: what is sent to whom, what became of it, and how it is sent again."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    ForeignKey,
    Index,
    Select,
    Text,
    UniqueConstraint,
    and_,
    cast,
    delete,
    exists,
    func,
    not_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import NotFound, TooManyTests
from app.store.core.base import Base, CreatedAt, PrimaryKey, newest_first, one_of
from app.store.core.identifiers import Prefix, parse_id
from app.store.events import IS_OF_EDIT, PREFIXES, Event
from app.store.webhooks import Webhook, is_served

MOST_REPLAYED: Final = 1000
# Tests of a webhook that wait to be delivered.
MOST_TESTS: Final = 10


class DeliveryState(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"  # it is sent, or will be
    DELIVERED = "delivered"  # the receiver took it
    DEAD = "dead"  # nobody took it in time; it can be replayed


class WebhookDelivery(Base):
    """One message to one receiver. Its id stays the same from try to try, and its body."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "endpoint_id"),
        Index("ix_webhook_deliveries_endpoint_id_id", "endpoint_id", "id"),
        Index(
            "ix_webhook_deliveries_due",
            "endpoint_id",
            "next_attempt_at",
            postgresql_where=text("next_attempt_at IS NOT NULL"),
        ),
        Index(
            "ix_webhook_deliveries_claimed",
            "endpoint_id",
            "claimed_until",
            postgresql_where=text("claimed_until IS NOT NULL"),
        ),
        Index("ix_webhook_deliveries_finished_at", "finished_at"),
        one_of("state", DeliveryState),
    )

    id: Mapped[PrimaryKey]
    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    # Null for a test.
    event_id: Mapped[UUID | None] = mapped_column(ForeignKey("events.id", ondelete="CASCADE"))
    type: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text, default=DeliveryState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    # Tries that failed since it was written or replayed: they say how long the next pause is.
    failures: Mapped[int] = mapped_column(default=0)
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    last_attempt_at: Mapped[datetime | None]
    # Null once it has ended.
    next_attempt_at: Mapped[datetime | None]
    claimed_until: Mapped[datetime | None]
    give_up_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class WebhookCursor(Base):
    """Up to which place events have become deliveries. One row."""

    __tablename__ = "webhook_cursor"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[int] = mapped_column(BigInteger)


class Backlog(NamedTuple):
    """What has not been delivered.

    Attributes:
        pending: how many deliveries.
        oldest_seconds: since when the oldest of them waits.
        overdue_seconds: since when the oldest could have been sent to a receiver that is well.
    """

    pending: int
    oldest_seconds: float
    overdue_seconds: float


def take_events(session: Session, limit: int) -> Sequence[Event]:
    """The next events that are to become deliveries, in order; the transaction that takes them makes these.

    None while another process takes some, and none of a kind that only a newer release can tell of.
    """
    cursor = session.scalars(select(WebhookCursor).with_for_update(skip_locked=True)).one_or_none()
    if cursor is None:
        return []
    statement = select(Event).where(Event.place > cursor.place).order_by(Event.place).limit(limit)
    events = list(takewhile(lambda event: event.subject_kind in PREFIXES, session.scalars(statement)))
    if events:
        cursor.place = events[-1].place or cursor.place
    return events


def add_deliveries(session: Session, rows: Collection[dict[str, Any]], *, give_up_after: timedelta) -> None:
    """Write deliveries that are due now, of each event one to a receiver."""
    if not rows:
        return
    now = func.clock_timestamp()
    times = {"next_attempt_at": now, "give_up_at": now + give_up_after}
    statement = insert(WebhookDelivery).values(times).on_conflict_do_nothing()
    session.execute(statement, list(rows))


def require_room_for_test(session: Session, webhook: Webhook) -> None:
    """Refuse another test of a webhook to which many have not been delivered. The caller holds its row.

    Raises:
        TooManyTests: there are as many as may wait.
    """
    waiting = select(func.count()).where(
        WebhookDelivery.endpoint_id == webhook.id,
        WebhookDelivery.event_id.is_(None),
        WebhookDelivery.next_attempt_at.is_not(None),
    )
    if session.execute(waiting).scalar_one() >= MOST_TESTS:
        raise TooManyTests(
            f"{MOST_TESTS} tests of this webhook have not been delivered; `last_error` of its deliveries "
            "says why. Let it take them first."
        )


def get_delivery(
    session: Session, webhook: Webhook, public_id: str, *, includes_edits: bool
) -> WebhookDelivery:
    """A delivery of a webhook; none that tells of an edit or of a gate on one unless these are included.

    Raises:
        NotFound: there is none of this id.
    """
    statement = _deliveries_of(webhook, includes_edits=includes_edits)
    row = session.scalars(
        statement.where(WebhookDelivery.id == parse_id(Prefix.DELIVERY, public_id))
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such delivery.")
    return row


def list_deliveries(
    session: Session,
    webhook: Webhook,
    before: UUID | None,
    limit: int,
    *,
    state: DeliveryState | None,
    includes_edits: bool,
) -> list[WebhookDelivery]:
    """The deliveries of a webhook, newest first; those of a state.

    Those that tell of edits and of gates on edits are left out unless they are included.
    """
    statement = _deliveries_of(webhook, includes_edits=includes_edits)
    if state is not None:
        statement = statement.where(WebhookDelivery.state == state)
    return newest_first(session, statement, WebhookDelivery.id, before, limit)


def _deliveries_of(webhook: Webhook, *, includes_edits: bool) -> Select[WebhookDelivery]:
    statement = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == webhook.id)
    if includes_edits:
        return statement
    return statement.where(not_(exists().where(Event.id == WebhookDelivery.event_id, IS_OF_EDIT)))


def make_due(session: Session, webhook: Webhook) -> None:
    """Let all that waits for a webhook be sent now. The caller holds its row."""
    now = func.clock_timestamp()
    session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.endpoint_id == webhook.id,
            WebhookDelivery.next_attempt_at > now,
            WebhookDelivery.claimed_until.is_(None),
        )
        .values(next_attempt_at=now)
        .execution_options(synchronize_session=False)
    )


def replay(session: Session, wanted: ColumnElement[bool], *, give_up_after: timedelta) -> int:
    """Let deliveries be sent again, with their ids: they are due now and have as much time as new ones.

    Returns:
        How many, at most MOST_REPLAYED, the oldest first.
    """
    some = (
        select(WebhookDelivery.id)
        .where(wanted)
        .order_by(WebhookDelivery.id)
        .limit(MOST_REPLAYED)
        .with_for_update()
    )
    now = func.clock_timestamp()
    replayed = session.scalars(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(some))
        .values(
            state=DeliveryState.PENDING,
            failures=0,
            next_attempt_at=now,
            claimed_until=None,
            give_up_at=now + give_up_after,
            finished_at=None,
        )
        .returning(WebhookDelivery.id)
        .execution_options(synchronize_session=False)
    )
    return len(replayed.all())


def is_dead_since(webhook: Webhook, since: datetime) -> ColumnElement[bool]:
    """The condition that a delivery of a webhook is dead whose event was at a time or later."""
    return and_(
        WebhookDelivery.endpoint_id == webhook.id,
        WebhookDelivery.state == DeliveryState.DEAD,
        WebhookDelivery.created_at >= since,
    )


def bury(session: Session, *, limit: int) -> int:
    """Give up deliveries whose time is over and that nobody tries, as those of disabled webhooks.

    Returns:
        How many, at most `limit`.
    """
    now = func.clock_timestamp()
    over = (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.next_attempt_at <= now,  # not before a try under way has had its time
            WebhookDelivery.give_up_at <= now,
        )
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    buried = session.scalars(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(over))
        .values(state=DeliveryState.DEAD, next_attempt_at=None, claimed_until=None, finished_at=now)
        .returning(WebhookDelivery.id)
        .execution_options(synchronize_session=False)
    )
    return len(buried.all())


def remove_finished(session: Session, *, older_than: timedelta, limit: int) -> int:
    """Remove deliveries that ended long ago.

    Returns:
        How many, at most `limit`.
    """
    old = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.finished_at < func.clock_timestamp() - older_than)
        .order_by(WebhookDelivery.finished_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    removed = delete(WebhookDelivery).where(WebhookDelivery.id.in_(old)).returning(WebhookDelivery.id)
    return len(session.scalars(removed.execution_options(synchronize_session=False)).all())


def read_backlog(session: Session) -> Backlog:
    """How much waits to be delivered, of all tenants together."""
    now = func.clock_timestamp()
    fine = and_(is_served(), Webhook.failures == 0)
    overdue = func.extract("epoch", now - WebhookDelivery.next_attempt_at)
    statement = (
        select(
            func.count(),
            cast(func.coalesce(func.max(func.extract("epoch", now - WebhookDelivery.created_at)), 0), Float),
            cast(func.coalesce(func.max(overdue).filter(fine), 0), Float),
        )
        .join(Webhook, Webhook.id == WebhookDelivery.endpoint_id)
        .where(WebhookDelivery.next_attempt_at.is_not(None))
    )
    pending, oldest, late = session.execute(statement).one()
    return Backlog(pending, oldest, max(0.0, late))
