"""Tenants as their operator sets them, and what a key may be allowed to do."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

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


# JSON's numbers are exact up to here everywhere.
_MOST: Final = 2**53 - 1


def _limit(description: str) -> Any:
    return Field(ge=0, le=_MOST, description=description)


Limit = int | None


class _Stored(Contract):
    """What is stored of a tenant, perhaps by a newer release."""

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Self:
        """What is stored, without what only a newer release knows."""
        return cls.model_validate({name: values[name] for name in cls.model_fields.keys() & values.keys()})


class Quotas(_Stored):
    """How much of the instance a tenant may use; null is the instance's default, which may be no limit."""

    requests_per_minute: Annotated[
        int | None,
        Field(
            ge=1,
            le=_MOST,
            description="Requests to an API process: so many at once, and as many a minute thereafter.",
        ),
    ] = None
    concurrent_operations: Annotated[
        Limit,
        _limit(
            "Audits, studies, edits, gates and model versions that have not ended, those made for other "
            "work too; language models in validation, and text sets in import."
        ),
    ] = None
    stored_texts: Annotated[Limit, _limit("Texts of all text sets that are not erased.")] = None
    stored_bytes: Annotated[
        Limit, _limit("Bytes of those texts in UTF-8, and of the files of artifacts that are not deleted.")
    ] = None
    gpu_seconds_per_day: Annotated[
        Limit, _limit("Seconds of workers at jobs of the queue `gpu`, from midnight to midnight in UTC.")
    ] = None
    gpu_seconds_per_month: Annotated[Limit, _limit("As by the day, in a calendar month in UTC.")] = None
    upload_bytes: Annotated[Limit, _limit("Bytes of one request that uploads texts.")] = None

    def or_else(self, defaults: "Quotas") -> "Quotas":
        """These, and where one is null that of the defaults."""
        given = self.model_dump(exclude_none=True)
        return defaults.model_copy(update=given)


class Retention(_Stored):
    """How long what a tenant submits is kept, in days; null is for ever."""

    text_sets_days: Annotated[int | None, Field(ge=1, le=36_500)] = None
    """Of a text set since it was made. It is erased with its evidence, once no unfinished work needs it."""
    evidence_days: Annotated[int | None, Field(ge=1, le=36_500)] = None
    """Of the token evidence of an audit since that ended. Its scores stay."""
    events_days: Annotated[int | None, Field(ge=1, le=36_500)] = None
    """Of events since they happened."""
