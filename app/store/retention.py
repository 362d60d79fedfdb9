"""What tenants keep no longer than they say: texts, token evidence, events."""

from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    and_,
    delete,
    exists,
    func,
    not_,
    or_,
    select,
    tuple_,
)
from sqlalchemy.orm import Session

from app.contracts.tenants import Retention
from app.errors import ResourceInUse
from app.signing.keys import SigningKeys
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id
from app.store.deletion import erase_text_set, uses_of_text_set
from app.store.events import Event
from app.store.tenants import Tenant
from app.store.text_sets import TextSet
from app.store.token_evidence import TokenEvidence
from app.store.trail import SERVICE, Action, record
from app.store.webhook_deliveries import DeliveryState, WebhookCursor, WebhookDelivery


def tenants_that_expire(session: Session) -> list[tuple[UUID, Retention]]:
    """The tenants that do not keep everything for ever, and for how long they keep what."""
    rows = session.execute(select(Tenant.id, Tenant.retention).where(Tenant.retention != {}))
    return [(tenant_id, Retention.stored(values)) for tenant_id, values in rows]


def _is_older(column: SQLColumnExpression[Any], days: int) -> ColumnElement[bool]:
    return column < func.clock_timestamp() - func.make_interval(0, 0, 0, days)


def _expired_text_sets(tenant_id: UUID, days: int) -> Select[UUID]:
    """Those that a tenant keeps no longer. One that unfinished work needs is kept until that has ended."""
    return select(TextSet.id).where(
        TextSet.tenant_id == tenant_id,
        TextSet.deleted_at.is_(None),
        _is_older(TextSet.created_at, days),
        not_(or_(*uses_of_text_set(TextSet.id))),
    )


def next_expired_text_set(session: Session, tenant_id: UUID, days: int, *, after: UUID) -> UUID | None:
    """The first text set after an id that a tenant keeps no longer; None when there is none."""
    wanted = _expired_text_sets(tenant_id, days).where(TextSet.id > after)
    return session.scalars(wanted.order_by(TextSet.id).limit(1)).one_or_none()


def expire_text_set(
    session: Session, tenant_id: UUID, text_set_id: UUID, days: int, keys: SigningKeys | None
) -> None:
    """Erase a text set that a tenant keeps no longer, with a receipt. One that others hold is left."""
    wanted = _expired_text_sets(tenant_id, days).where(TextSet.id == text_set_id)
    if session.scalars(wanted.with_for_update(skip_locked=True)).one_or_none() is None:
        return
    try:
        erase_text_set(session, tenant_id, text_set_id, keys, "expired")
    except ResourceInUse:  # since it was looked for; nothing has been written yet
        return
    record(
        session,
        tenant_id=tenant_id,
        actor=SERVICE,
        action=Action.TEXT_SET_ERASED,
        subject=format_id(Prefix.TEXT_SET, text_set_id),
        facts={"reason": "expired", "days": days},
    )


def expire_evidence(session: Session, tenant_id: UUID, days: int, *, limit: int) -> int:
    """Erase token evidence of audits that ended more than so many days ago; of how many texts.

    What would be derived from it meanwhile goes through the model instead.
    """
    has_evidence = exists().where(TokenEvidence.audit_id == Audit.id)
    old = select(Audit.id).where(Audit.tenant_id == tenant_id, _is_older(Audit.finished_at, days))
    audit_id = session.scalars(old.where(has_evidence).limit(1)).one_or_none()
    place = tuple_(TokenEvidence.audit_id, TokenEvidence.ordinal)
    some = (
        select(TokenEvidence.audit_id, TokenEvidence.ordinal)
        .where(TokenEvidence.audit_id == audit_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    removed = delete(TokenEvidence).where(place.in_(some)).returning(TokenEvidence.ordinal)
    return len(session.scalars(removed.execution_options(synchronize_session=False)).all())


def expire_events(session: Session, tenant_id: UUID, days: int, *, limit: int) -> int:
    """Forget events that happened more than so many days ago and are sent to all webhooks; how many.

    With an event go its deliveries. One that is dead is kept for as long as it may be replayed, and so is its
    event.
    """
    kept = (DeliveryState.PENDING, DeliveryState.DEAD)
    is_needed = exists().where(WebhookDelivery.event_id == Event.id, WebhookDelivery.state.in_(kept))
    is_told = Event.place <= select(WebhookCursor.place).scalar_subquery()
    old = and_(Event.tenant_id == tenant_id, _is_older(Event.created_at, days), is_told, not_(is_needed))
    some = select(Event.id).where(old).limit(limit).with_for_update(skip_locked=True)
    removed = delete(Event).where(Event.id.in_(some)).returning(Event.id)
    return len(session.scalars(removed.execution_options(synchronize_session=False)).all())
