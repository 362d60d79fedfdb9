"""The outbox of webhooks: what is sent to whom, what became of each try, and who tries next.

A delivery that is claimed is due again when its lease runs out, so one whose process died is sent again by
another. Whoever writes what became of a try names its number; a try that was overtaken writes nothing.
"""

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
    Text,
    UniqueConstraint,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.errors import NotFound
from app.store.core.base import Base, CreatedAt, PrimaryKey, newest_first, one_of
from app.store.core.identifiers import Prefix, parse_id
from app.store.events import PREFIXES, Event
from app.store.webhooks import GONE, Webhook, sealed_secrets

# Tries under way to one receiver at once, of all processes together.
AT_ONCE: Final = 4
# From so many failures in a row on, one try at a time finds out whether the receiver is back.
OPEN_AFTER: Final = 3
MOST_REPLAYED: Final = 1000


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


class Claim(NamedTuple):
    """A delivery that this process tries now and nobody else before the lease ends, the `attempt`-th time."""

    id: UUID
    attempt: int
    failures: int
    body: str
    webhook_id: UUID
    tenant_id: UUID
    url: str
    webhook_failures: int
    sealed_secrets: list[bytes]


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


def claim_deliveries(
    session: Session, *, limit: int, busy: Collection[UUID], lease_seconds: float
) -> list[Claim]:
    """Claim deliveries that are due, of the receivers that have waited longest, a few of each.

    Args:
        session: of the caller, who commits before anything is sent.
        limit: how many at most.
        busy: tenants for whom this process has enough to do.
        lease_seconds: after which another process may try them.
    """
    webhooks = session.scalars(
        select(Webhook)
        .where(Webhook.enabled, _may_be_tried(), Webhook.tenant_id.not_in(busy), _room() > 0, exists(_due()))
        .order_by(Webhook.served_at.nulls_first())
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    ).all()
    claimed: list[tuple[WebhookDelivery, Webhook]] = []
    for webhook in webhooks:
        # Once more, now that nobody else can claim any of this receiver's.
        room = session.execute(select(_room()).where(Webhook.id == webhook.id)).scalar_one()
        room = min(room, limit - len(claimed))
        if room > 0:
            claimed += [(each, webhook) for each in _claim_of(session, webhook, room, lease_seconds)]
    secrets = sealed_secrets(session, {webhook.id for _, webhook in claimed})
    return [
        Claim(
            id=each.id,
            attempt=each.attempts,
            failures=each.failures,
            body=each.body,
            webhook_id=webhook.id,
            tenant_id=webhook.tenant_id,
            url=webhook.url,
            webhook_failures=webhook.failures,
            sealed_secrets=secrets[webhook.id],
        )
        for each, webhook in claimed
    ]


def _may_be_tried() -> ColumnElement[bool]:
    return or_(Webhook.retry_at.is_(None), Webhook.retry_at <= func.clock_timestamp())


def _room() -> ColumnElement[int]:
    """How many more tries a receiver takes now."""
    under_way = (
        select(func.count())
        .where(
            WebhookDelivery.endpoint_id == Webhook.id,
            WebhookDelivery.claimed_until > func.clock_timestamp(),
        )
        .correlate(Webhook)
        .scalar_subquery()
    )
    return case((Webhook.failures >= OPEN_AFTER, 1), else_=AT_ONCE) - under_way


def _due() -> Any:
    return select(WebhookDelivery.id).where(
        WebhookDelivery.endpoint_id == Webhook.id,
        WebhookDelivery.next_attempt_at <= func.clock_timestamp(),
    )


def _claim_of(
    session: Session, webhook: Webhook, room: int, lease_seconds: float
) -> Sequence[WebhookDelivery]:
    due = (
        select(WebhookDelivery.id)
        .where(
            WebhookDelivery.endpoint_id == webhook.id,
            WebhookDelivery.next_attempt_at <= func.clock_timestamp(),
        )
        .order_by(WebhookDelivery.next_attempt_at)
        .limit(room)
        .with_for_update(skip_locked=True)
    )
    now = func.clock_timestamp()
    until = now + timedelta(seconds=lease_seconds)
    webhook.served_at = session.execute(select(now)).scalar_one()
    return session.scalars(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(due))
        .values(
            attempts=WebhookDelivery.attempts + 1,
            last_attempt_at=now,
            claimed_until=until,
            next_attempt_at=until,
        )
        .returning(WebhookDelivery)
        .execution_options(synchronize_session=False)
    ).all()


def record_delivered(session: Session, claim: Claim, http_status: int) -> bool:
    """Write that the receiver took a delivery. If it had been away, all that wait for it are due.

    Returns:
        False when another try has overtaken this one; nothing is changed then.
    """
    webhook = _locked(session, claim)
    if webhook is None or not _finish(session, claim, DeliveryState.DELIVERED, http_status, None):
        return False
    if webhook.failures >= OPEN_AFTER:
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
    if webhook.failures or webhook.retry_at:
        webhook.failures, webhook.retry_at = 0, None
    return True


def record_failed(
    session: Session,
    claim: Claim,
    *,
    http_status: int | None,
    error: str,
    pause: float,
    webhook_pause: float,
) -> DeliveryState | None:
    """Write that a try failed: it is due again after a pause, or dead if its time is over by then.

    Args:
        session: of the caller, who commits.
        claim: what was tried.
        http_status: of the answer; None if there was none.
        error: what went wrong, as a code.
        pause: seconds until the delivery is due again.
        webhook_pause: seconds for which nothing is sent to the receiver.

    Returns:
        What it is now; None when another try has overtaken this one, and nothing is changed.
    """
    webhook = _locked(session, claim)
    if webhook is None:
        return None
    now = session.execute(select(func.clock_timestamp())).scalar_one()
    again = now + timedelta(seconds=pause)
    retried = session.execute(
        update(WebhookDelivery)
        .where(*_of(claim), WebhookDelivery.give_up_at > again)
        .values(
            failures=WebhookDelivery.failures + 1,
            last_status=http_status,
            last_error=error,
            next_attempt_at=again,
            claimed_until=None,
        )
        .returning(WebhookDelivery.id)
    ).all()
    if not retried and not _finish(session, claim, DeliveryState.DEAD, http_status, error):
        return None
    webhook.failures += 1
    if webhook_pause:
        webhook.retry_at = now + timedelta(seconds=webhook_pause)
    return DeliveryState.PENDING if retried else DeliveryState.DEAD


def record_gone(session: Session, claim: Claim, http_status: int, error: str) -> bool:
    """Write that the receiver wants no more: its webhook is disabled and the delivery dead.

    Returns:
        False when another try has overtaken this one; nothing is changed then.
    """
    webhook = _locked(session, claim)
    if webhook is None or not _finish(session, claim, DeliveryState.DEAD, http_status, error):
        return False
    webhook.enabled, webhook.disabled_reason = False, GONE
    return True


def release(session: Session, claims: Collection[Claim]) -> None:
    """Give back what was claimed and not tried to the end: it is due now."""
    for claim in claims:
        session.execute(
            update(WebhookDelivery)
            .where(*_of(claim))
            .values(next_attempt_at=func.clock_timestamp(), claimed_until=None)
        )


def _locked(session: Session, claim: Claim) -> Webhook | None:
    """The receiver before its delivery, in the order of all who lock both; None if it was deleted."""
    return session.scalars(
        select(Webhook).where(Webhook.id == claim.webhook_id).with_for_update(key_share=True)
    ).one_or_none()


def _of(claim: Claim) -> tuple[ColumnElement[bool], ...]:
    return (
        WebhookDelivery.id == claim.id,
        WebhookDelivery.attempts == claim.attempt,
        WebhookDelivery.claimed_until.is_not(None),
    )


def _finish(
    session: Session, claim: Claim, state: DeliveryState, http_status: int | None, error: str | None
) -> bool:
    finished = session.execute(
        update(WebhookDelivery)
        .where(*_of(claim))
        .values(
            state=state,
            last_status=http_status,
            last_error=error,
            next_attempt_at=None,
            claimed_until=None,
            finished_at=func.clock_timestamp(),
        )
        .returning(WebhookDelivery.id)
    )
    return finished.one_or_none() is not None


def get_delivery(session: Session, webhook: Webhook, public_id: str) -> WebhookDelivery:
    """A delivery of a webhook.

    Raises:
        NotFound: there is none of this id.
    """
    row = session.scalars(
        select(WebhookDelivery).where(
            WebhookDelivery.id == parse_id(Prefix.DELIVERY, public_id),
            WebhookDelivery.endpoint_id == webhook.id,
        )
    ).one_or_none()
    if row is None:
        raise NotFound("There is no such delivery.")
    return row


def list_deliveries(
    session: Session, webhook: Webhook, before: UUID | None, limit: int, *, state: DeliveryState | None
) -> list[WebhookDelivery]:
    """The deliveries of a webhook, newest first; those of a state."""
    statement = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == webhook.id)
    if state is not None:
        statement = statement.where(WebhookDelivery.state == state)
    return newest_first(session, statement, WebhookDelivery.id, before, limit)


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
    fine = and_(Webhook.enabled, Webhook.failures == 0, _may_be_tried())
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
