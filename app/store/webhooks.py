"""Webhooks: where a tenant is told of events, and the secrets that what is sent there is signed with."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
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

from app.errors import NotFound, TooManySecrets, TooManyWebhooks
from app.store.core.base import Base, CreatedAt, JSONObject, PrimaryKey, has_metadata, newest_first
from app.store.core.identifiers import Prefix, parse_id
from app.store.tenants import Tenant

MOST_WEBHOOKS: Final = 20
# The one that signs from now on, and those from before whose time has not run out.
MOST_SECRETS: Final = 5
# Why a webhook is disabled that its owner did not disable: the receiver answered 410.
GONE: Final = "gone"


class Webhook(Base):
    """A receiver. `failures` are the tries in a row that failed; before `retry_at` it is left in peace."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index("ix_webhook_endpoints_tenant_id_id", "tenant_id", "id"),)

    id: Mapped[PrimaryKey]
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(Text)
    # The types of events that it is told of; null for all, those of later releases too.
    event_types: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    # Whether it is told of edits and of gates on edits too: whoever said what it is told of may read them.
    includes_edits: Mapped[bool] = mapped_column(default=False)
    description: Mapped[str | None] = mapped_column(Text)
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    failures: Mapped[int] = mapped_column(default=0)
    retry_at: Mapped[datetime | None]
    # When deliveries were last taken, so that each has its turn.
    served_at: Mapped[datetime | None]
    metadata_: Mapped[JSONObject] = mapped_column("metadata", default=dict)
    created_at: Mapped[CreatedAt]


class WebhookSecret(Base):
    """A secret of a webhook, sealed. All that have not expired sign; the newest does not expire."""

    __tablename__ = "webhook_secrets"

    id: Mapped[PrimaryKey]
    endpoint_id: Mapped[UUID] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), index=True
    )
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]


def add_webhook(session: Session, webhook: Webhook, sealed: bytes) -> None:
    """Write a webhook and its first secret.

    Raises:
        TooManyWebhooks: the tenant has as many as one may have.
    """
    # Of two requests of a tenant at once the second counts what the first has written.
    session.execute(select(Tenant.id).where(Tenant.id == webhook.tenant_id).with_for_update(key_share=True))
    present = select(func.count()).where(Webhook.tenant_id == webhook.tenant_id)
    if session.execute(present).scalar_one() >= MOST_WEBHOOKS:
        raise TooManyWebhooks(f"A tenant may have {MOST_WEBHOOKS} webhooks; delete one first.")
    session.add(webhook)
    session.flush()
    session.add(WebhookSecret(endpoint_id=webhook.id, sealed=sealed))
    session.flush()


def get_webhook(session: Session, tenant_id: UUID, public_id: str, *, lock: bool = False) -> Webhook:
    """A tenant's webhook; with `lock` nobody else changes it before the transaction ends.

    Raises:
        NotFound: no such webhook for this tenant.
    """
    statement = select(Webhook).where(
        Webhook.id == parse_id(Prefix.WEBHOOK, public_id), Webhook.tenant_id == tenant_id
    )
    if lock:
        statement = statement.with_for_update(key_share=True)
    row = session.scalars(statement).one_or_none()
    if row is None:
        raise NotFound("There is no such webhook.")
    return row


def list_webhooks(
    session: Session, tenant_id: UUID, before: UUID | None, limit: int, *, metadata: Mapping[str, str]
) -> list[Webhook]:
    """A tenant's webhooks, newest first."""
    statement = select(Webhook).where(
        Webhook.tenant_id == tenant_id, has_metadata(Webhook.metadata_, metadata)
    )
    return newest_first(session, statement, Webhook.id, before, limit)


def is_served() -> ColumnElement[bool]:
    """The condition that a webhook may be tried now: both it and its tenant are enabled, and it is due."""
    return and_(
        Webhook.enabled,
        Webhook.tenant_id.in_(select(Tenant.id).where(Tenant.disabled_at.is_(None))),
        or_(Webhook.retry_at.is_(None), Webhook.retry_at <= func.clock_timestamp()),
    )


def subscribers(session: Session, tenant_ids: Collection[UUID]) -> list[Webhook]:
    """The webhooks of some tenants that are enabled."""
    statement = select(Webhook).where(Webhook.tenant_id.in_(tenant_ids), Webhook.enabled)
    return list(session.scalars(statement))


def rotate_secret(session: Session, webhook: Webhook, sealed: bytes, *, overlap: timedelta) -> None:
    """Give a webhook another secret; those that it had go on signing for a while. The caller holds its row.

    Raises:
        TooManySecrets: as many as one may have sign already.
    """
    now = func.clock_timestamp()
    until = now + overlap
    session.execute(
        update(WebhookSecret)
        .where(
            WebhookSecret.endpoint_id == webhook.id,
            or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > until),
        )
        .values(expires_at=until)
    )
    living = select(func.count()).where(
        WebhookSecret.endpoint_id == webhook.id, WebhookSecret.expires_at > func.clock_timestamp()
    )
    if session.execute(living).scalar_one() >= MOST_SECRETS:
        raise TooManySecrets(
            f"{MOST_SECRETS} secrets sign already. Wait until one has expired, or rotate without an overlap."
        )
    session.add(WebhookSecret(endpoint_id=webhook.id, sealed=sealed))
    session.flush()


def sealed_secrets(session: Session, webhook_ids: Collection[UUID]) -> dict[UUID, list[bytes]]:
    """The secrets that sign for each webhook now, the newest first."""
    found: dict[UUID, list[bytes]] = {webhook_id: [] for webhook_id in webhook_ids}
    statement = (
        select(WebhookSecret.endpoint_id, WebhookSecret.sealed)
        .where(
            WebhookSecret.endpoint_id.in_(found),
            or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > func.clock_timestamp()),
        )
        .order_by(WebhookSecret.id.desc())
    )
    for webhook_id, sealed in session.execute(statement):
        found[webhook_id].append(sealed)
    return found
