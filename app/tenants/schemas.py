"""Tenants and API keys as they are sent and answered."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.contracts.base import Contract, Described, Name
from app.contracts.tenants import Quotas, Retention, ScopeName, TenantName
from app.contracts.times import Time
from app.store.api_keys import APIKey
from app.store.core.identifiers import Prefix, format_id
from app.store.tenants import Tenant


class TenantCreate(Contract):
    """A tenant to be."""

    name: TenantName
    quotas: Quotas = Quotas()
    retention: Retention = Retention()


class TenantChange(Contract):
    """What is to change of a tenant: each field that is given; the others stay.

    `quotas` and `retention` are each replaced as a whole: what is left out of one is null again.
    """

    name: TenantName | None = None
    quotas: Quotas | None = None
    retention: Retention | None = None
    disabled: bool | None = None


class TenantOut(Described):
    """Whoever owns resources."""

    object: Literal["tenant"] = "tenant"
    id: str
    name: str
    """Part of the names of its edited models' repositories."""
    quotas: Quotas
    retention: Retention
    disabled: bool
    """Whether its keys are refused. What it asked for before goes on."""
    disabled_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, row: Tenant) -> Self:
        """The resource for a row."""
        return cls(
            id=format_id(Prefix.TENANT, row.id),
            name=row.name,
            quotas=Quotas.stored(row.quotas),
            retention=Retention.stored(row.retention),
            disabled=row.disabled_at is not None,
            disabled_at=row.disabled_at,
            created_at=row.created_at,
        )


class APIKeyCreate(Contract):
    """An API key to be. Two of one name may live at a time: the one in use, and the one to change over to."""

    name: Name
    scopes: Annotated[
        list[ScopeName],
        Field(min_length=1, max_length=20, description="What it may do. No scope comes twice."),
    ]
    expires_at: Annotated[Time | None, Field(description="When it ends by itself; null for never.")] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.scopes)) < len(self.scopes):
            raise PydanticCustomError("scope_twice", "Give each scope once")
        if self.expires_at is not None and self.expires_at <= datetime.now(UTC):
            raise PydanticCustomError("expired_already", "Give a time to come")
        return self


class APIKeyOut(Described):
    """What is known of an API key: the key itself is not."""

    object: Literal["api_key"] = "api_key"
    id: str
    tenant: str
    """The id of the tenant in whose name it asks."""
    name: str
    ends_in: str
    """Its last four characters."""
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To about ten minutes; null if it never was."""

    @classmethod
    def of(cls, row: APIKey) -> Self:
        """The resource for a row."""
        return cls(
            id=format_id(Prefix.API_KEY, row.id),
            tenant=format_id(Prefix.TENANT, row.tenant_id),
            name=row.name,
            ends_in=row.hint,
            scopes=row.scopes,
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
        )


class NewAPIKeyOut(APIKeyOut):
    """An API key that was just made."""

    key: str
    """The key itself. It is shown this once; whoever loses it makes another."""
