"""Administering tenants and API keys.

A key with the scope `admin` administers all tenants; one with `keys:write` the keys of its own, up to what it
may do itself and until when.
"""

from collections.abc import Collection
from datetime import UTC
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import FieldError, InsufficientScope, NotFound, OwnTenant, ValidationFailed
from app.http.dependencies import ADMIN
from app.http.pagination import Page, id_cursor, page_by_id
from app.store.api_keys import create_key, get_key, list_keys, revoke_key
from app.store.tenants import Principal, Tenant, add_tenant, get_tenant, list_tenants, rename_tenant
from app.store.trail import Action, Fact, record_request
from app.tenants.schemas import (
    APIKeyCreate,
    APIKeyOut,
    NewAPIKeyOut,
    TenantChange,
    TenantCreate,
    TenantOut,
)

_WIDER: Final = "A key can only make or revoke keys that may do no more than itself."


def create_tenant(session: Session, principal: Principal, request: TenantCreate) -> TenantOut:
    """Make a tenant, which has no key yet.

    Raises:
        TenantNameTaken: there is one of this name.
    """
    tenant = add_tenant(session, request.name, request.quotas, request.retention)
    answer = TenantOut.of(tenant)
    record_request(session, principal, Action.TENANT_CREATED, answer.id, tenant_id=tenant.id)
    return answer


def list_page(
    session: Session, principal: Principal, name: str | None, limit: int, cursor: str | None
) -> Page[TenantOut]:
    """The tenants that a principal may see, newest first: all, or its own; of a name."""
    only = None if ADMIN in principal.scopes else principal.tenant_id
    rows = list_tenants(session, id_cursor(cursor), limit + 1, name=name, only=only)
    return page_by_id(rows, limit, TenantOut.of)


def read_tenant(session: Session, principal: Principal, tenant_id: UUID) -> TenantOut:
    """A tenant.

    Raises:
        NotFound: there is none, or it is another's.
    """
    return TenantOut.of(_administered(session, principal, tenant_id))


def change_tenant(
    session: Session, principal: Principal, tenant_id: UUID, request: TenantChange
) -> TenantOut:
    """Change what is given of a tenant.

    Raises:
        NotFound: there is none.
        TenantNameTaken: another one has the name.
        OwnTenant: whoever asks would lock itself out.
    """
    tenant = get_tenant(session, tenant_id, lock=True)
    if request.disabled and tenant.id == principal.tenant_id:
        raise OwnTenant
    if request.name is not None:
        rename_tenant(session, tenant, request.name)
    if request.quotas is not None:
        tenant.quotas = request.quotas.model_dump()
    if request.retention is not None:
        tenant.retention = request.retention.model_dump()
    if request.disabled is not None and request.disabled != (tenant.disabled_at is not None):
        tenant.disabled_at = session.scalar(select(func.now())) if request.disabled else None
    session.flush()
    answer = TenantOut.of(tenant)
    changed = sorted(name for name in request.model_fields_set if getattr(request, name) is not None)
    record_request(
        session,
        principal,
        Action.TENANT_CHANGED,
        answer.id,
        {"changed": changed, "disabled": answer.disabled},
        tenant_id=tenant.id,
    )
    return answer


def make_key(session: Session, principal: Principal, tenant_id: UUID, request: APIKeyCreate) -> NewAPIKeyOut:
    """Make a key of a tenant.

    Raises:
        NotFound: there is no such tenant, or it is another's.
        InsufficientScope: it could do more than the key that asks.
        ValidationFailed: it would outlast the key that asks.
        TooManyKeys: two of its name live.
    """
    tenant = _administered(session, principal, tenant_id)
    _require_no_wider(principal, request.scopes)
    _require_no_longer(session, principal, request)
    row, key = create_key(
        session, tenant.id, name=request.name, scopes=request.scopes, expires_at=request.expires_at
    )
    answer = NewAPIKeyOut(**APIKeyOut.of(row).model_dump(), key=key)
    facts: dict[str, Fact] = {
        "scopes": list(request.scopes),
        "expires_at": request.expires_at.isoformat() if request.expires_at else None,
    }
    record_request(session, principal, Action.KEY_CREATED, answer.id, facts, tenant_id=tenant.id)
    return answer


def list_keys_page(
    session: Session, principal: Principal, tenant_id: UUID, limit: int, cursor: str | None
) -> Page[APIKeyOut]:
    """A tenant's keys, newest first.

    Raises:
        NotFound: there is no such tenant, or it is another's.
    """
    tenant = _administered(session, principal, tenant_id)
    return page_by_id(list_keys(session, tenant.id, id_cursor(cursor), limit + 1), limit, APIKeyOut.of)


def revoke(session: Session, principal: Principal, key_id: UUID) -> APIKeyOut:
    """Revoke a key for good. One that was revoked before stays so.

    Raises:
        NotFound: there is no such key, or it is another tenant's.
        InsufficientScope: it may do more than the key that asks.
    """
    row = get_key(session, key_id)
    _administered(session, principal, row.tenant_id, missing="There is no such API key.")
    _require_no_wider(principal, row.scopes)
    revoked = revoke_key(session, row.id)
    answer = APIKeyOut.of(revoked or row)
    if revoked is not None:
        record_request(session, principal, Action.KEY_REVOKED, answer.id, tenant_id=row.tenant_id)
    return answer


def _administered(
    session: Session, principal: Principal, tenant_id: UUID, *, missing: str = "There is no such tenant."
) -> Tenant:
    """A tenant that a principal may administer.

    Raises:
        NotFound: there is none, or it is another's.
    """
    if ADMIN not in principal.scopes and tenant_id != principal.tenant_id:
        raise NotFound(missing)
    return get_tenant(session, tenant_id)


def _require_no_wider(principal: Principal, scopes: Collection[str]) -> None:
    if ADMIN not in principal.scopes and not principal.scopes.issuperset(scopes):
        raise InsufficientScope(_WIDER)


def _require_no_longer(session: Session, principal: Principal, request: APIKeyCreate) -> None:
    """Refuse a key that could do for longer what the key that asks may do until its end.

    An operator gives others what they need for as long as they need it: its own end bounds its like only. A
    signed token ends with a session, and whoever had it comes back with the next: it bounds nothing.
    """
    if principal.key_id is None or (ADMIN in principal.scopes and ADMIN not in request.scopes):
        return
    end = get_key(session, principal.key_id).expires_at
    if end is not None and (request.expires_at is None or request.expires_at > end):
        raise ValidationFailed(
            f"The key that asks ends at {end.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}, and what it makes must not "
            "last longer; give an `expires_at` until then.",
            [FieldError("/expires_at", "outlasts_its_maker")],
        )
