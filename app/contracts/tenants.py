"""Tenants as their operator sets them, and what a key may be allowed to do."""

from typing import Annotated, Final, Literal, get_args

from pydantic import Field

from app.contracts.base import Contract

ScopeName = Literal[
    "audit:read",
    "audit:write",
    "audit:evidence",
    "edit:read",
    "edit:write",
    "keys:write",
    "trail:read",
    "admin",
]
SCOPES: Final[tuple[ScopeName, ...]] = get_args(ScopeName)

# It is part of the names of repositories, and so of paths.
TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$", max_length=96)]


class Quotas(Contract):
    """How much of the instance a tenant may use; null is the instance's default."""


class Retention(Contract):
    """How long what a tenant submits is kept, in days; null is for ever."""

    text_sets_days: Annotated[int | None, Field(ge=1, le=36_500)] = None
    """Of a text set since it was made. It is erased with its evidence, once no unfinished work needs it."""
    evidence_days: Annotated[int | None, Field(ge=1, le=36_500)] = None
    """Of the token evidence of an audit since that ended. Its scores stay."""
    events_days: Annotated[int | None, Field(ge=1, le=36_500)] = None
    """Of events since they happened."""
