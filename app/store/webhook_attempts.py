"""Tries to deliver: who tries what next, and what became of it.

A delivery that is claimed is due again when its lease runs out, so one whose process died is sent again by
another. Whoever writes what became of a try names its number; a try that was overtaken writes nothing.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, SQLColumnExpression, case, exists, func, select, update
from sqlalchemy.orm import Session

from app.store.core.identifiers import Prefix, format_id
from app.store.trail import SERVICE, Action, record
from app.store.webhook_deliveries import DeliveryState, WebhookDelivery, make_due
from app.store.webhooks import GONE, Webhook, is_served, sealed_secrets

# Tries under way to one receiver at once, of all processes together.
AT_ONCE: Final = 4
# From so many failures in a row on, one try at a time finds out whether the receiver is back.
OPEN_AFTER: Final = 3


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


def claim_deliveries(
    session: Session, *, limit: int, under_way: Mapping[UUID, int], of_a_tenant: int, lease_seconds: float
) -> list[Claim]:
    """Claim deliveries that are due, of the receivers that have waited longest, a few of each.

    Args:
        session: of the caller, who commits before anything is sent.
        limit: how many at most.
        under_way: tries of this process for each tenant.
        of_a_tenant: how many these may become, so that no tenant takes the place of all.
        lease_seconds: after which another process may try them.
    """
    tries = Counter(under_way)
    busy = [tenant for tenant, count in tries.items() if count >= of_a_tenant]
    webhooks = session.scalars(
        select(Webhook)
        .where(is_served(), Webhook.tenant_id.not_in(busy), _room() > 0, exists(_due(Webhook.id)))
        .order_by(Webhook.served_at.nulls_first())
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    ).all()
    claimed: list[tuple[WebhookDelivery, Webhook]] = []
    for webhook in webhooks:
        # Once more, now that nobody else can claim any of this receiver's.
        room = session.execute(select(_room()).where(Webhook.id == webhook.id)).scalar_one()
        room = min(room, limit - len(claimed), of_a_tenant - tries[webhook.tenant_id])
        if room > 0:
            taken = _claim_of(session, webhook, room, lease_seconds)
            claimed += [(each, webhook) for each in taken]
            tries[webhook.tenant_id] += len(taken)
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


def _due(webhook_id: UUID | SQLColumnExpression[UUID]) -> Select[UUID]:
    return select(WebhookDelivery.id).where(
        WebhookDelivery.endpoint_id == webhook_id,
        WebhookDelivery.next_attempt_at <= func.clock_timestamp(),
    )


def _claim_of(
    session: Session, webhook: Webhook, room: int, lease_seconds: float
) -> Sequence[WebhookDelivery]:
    due = (
        _due(webhook.id)
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
        make_due(session, webhook)
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
        False when another try has overtaken this one, or the webhook leads elsewhere now and is tried there
        once the lease is over; nothing is changed then.
    """
    webhook = _locked(session, claim)
    if webhook is None or webhook.url != claim.url:
        return False
    if not _finish(session, claim, DeliveryState.DEAD, http_status, error):
        return False
    webhook.enabled, webhook.disabled_reason = False, GONE
    record(
        session,
        tenant_id=webhook.tenant_id,
        actor=SERVICE,
        action=Action.WEBHOOK_CHANGED,
        subject=format_id(Prefix.WEBHOOK, webhook.id),
        facts={"changed": ["enabled"], "enabled": False},
    )
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
