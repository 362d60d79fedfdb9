"""Who is sent something next: no tenant takes the place of others, nor one that is disabled any."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from app.contracts.tenants import Quotas
from app.settings import Settings
from app.store.core.identifiers import Prefix, format_id, new_id
from app.store.tenants import Principal, Tenant, ensure_tenant
from app.store.trail import TrailEntry
from app.store.webhook_attempts import AT_ONCE, Claim, claim_deliveries, record_gone
from app.store.webhook_deliveries import WebhookDelivery, add_deliveries, read_backlog
from app.store.webhooks import Webhook, add_webhook
from app.webhooks.schemas import WebhookChange
from app.webhooks.service import change

OF_A_TENANT = 6


def add(session: Session, tenant: str, *, waiting: int) -> Webhook:
    """A webhook of a tenant for which so many deliveries wait."""
    webhook = Webhook(id=new_id(), tenant_id=ensure_tenant(session, tenant), url="https://receiver.invalid/")
    add_webhook(session, webhook, b"sealed")
    rows = [
        {"id": new_id(), "endpoint_id": webhook.id, "event_id": None, "type": "webhook.test", "body": "{}"}
        for _ in range(waiting)
    ]
    add_deliveries(session, rows, give_up_after=timedelta(days=1))
    return webhook


def claim(session: Session, *, limit: int = 64, under_way: dict[UUID, int] | None = None) -> list[Claim]:
    return claim_deliveries(
        session, limit=limit, under_way=under_way or {}, of_a_tenant=OF_A_TENANT, lease_seconds=60
    )


def test_a_tenant_with_many_webhooks_leaves_room_for_others(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        mine = [add(session, "acme", waiting=2 * AT_ONCE) for _ in range(5)]
        theirs = add(session, "other", waiting=1)
    with sessions.begin() as session:
        claims = claim(session)
        assert sum(each.tenant_id == mine[0].tenant_id for each in claims) == OF_A_TENANT
        assert sum(each.tenant_id == theirs.tenant_id for each in claims) == 1
    with sessions.begin() as session:
        assert claim(session, under_way={mine[0].tenant_id: OF_A_TENANT}) == []
        one_more = claim(session, under_way={mine[0].tenant_id: OF_A_TENANT - 1})
        assert [each.tenant_id for each in one_more] == [mine[0].tenant_id]


def test_nothing_is_sent_for_a_tenant_that_is_disabled_before_it_is_enabled(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        webhook = add(session, "acme", waiting=1)
        tenant = session.get_one(Tenant, webhook.tenant_id)
        tenant.disabled_at = tenant.created_at
    with sessions.begin() as session:
        assert claim(session) == []
        backlog = read_backlog(session)
        assert (backlog.pending, backlog.overdue_seconds) == (1, 0)
        session.get_one(Tenant, webhook.tenant_id).disabled_at = None
    with sessions.begin() as session:
        assert len(claim(session)) == 1


def test_what_waits_long_is_due_once_its_webhook_is_changed(
    sessions: sessionmaker[Session], settings: Settings
) -> None:
    """Its failures are forgotten then, so that no success would make it due."""
    with sessions.begin() as session:
        webhook = add(session, "acme", waiting=2)
        webhook.failures = 9
        later = WebhookDelivery.next_attempt_at + timedelta(minutes=30)
        session.execute(update(WebhookDelivery).values(next_attempt_at=later))
    principal = Principal(webhook.tenant_id, "acme", new_id(), frozenset(), Quotas())
    with sessions.begin() as session:
        assert claim(session) == []
        name = format_id(Prefix.WEBHOOK, webhook.id)
        change(session, principal, name, WebhookChange(description="the same receiver"), settings)
        assert claim(session) == []
        change(session, principal, name, WebhookChange(enabled=True), settings)
    with sessions.begin() as session:
        assert len(claim(session)) == 2


def test_a_receiver_of_before_does_not_end_a_webhook_that_leads_elsewhere(
    sessions: sessionmaker[Session],
) -> None:
    with sessions.begin() as session:
        webhook = add(session, "acme", waiting=1)
        (claimed,) = claim(session)
        webhook.url = "https://elsewhere.invalid/"
        session.flush()
        assert not record_gone(session, claimed, 410, "refused")
        assert webhook.enabled
        session.execute(update(WebhookDelivery).values(next_attempt_at=WebhookDelivery.created_at))
        assert [each.url for each in claim(session)] == [webhook.url]


def test_that_a_receiver_ended_its_webhook_is_in_the_trail(sessions: sessionmaker[Session]) -> None:
    with sessions.begin() as session:
        webhook = add(session, "acme", waiting=1)
        (claimed,) = claim(session)
        assert record_gone(session, claimed, 410, "refused")
        (told,) = session.scalars(select(TrailEntry))
        assert (told.actor, told.action) == ("service", "webhook.changed")
        assert told.subject == format_id(Prefix.WEBHOOK, webhook.id)
        assert told.facts == {"changed": ["enabled"], "enabled": False}
