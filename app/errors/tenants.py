"""Tenants and keys that cannot be made or changed as asked, and what a tenant asks beyond its limits."""

from app.errors.base import Conflict, TooManyRequests


class TenantNameTaken(Conflict):
    """Another tenant has this name."""

    slug = "tenant-name-taken"
    title = "Tenant name taken"

    def __init__(self) -> None:
        super().__init__("There is a tenant of this name; give another one.")


class TooManyKeys(Conflict):
    """Two API keys of this name live: the one in use, and the one that takes its place."""

    slug = "too-many-keys"
    title = "Too many keys of this name"

    def __init__(self) -> None:
        super().__init__("Two keys of this name live; revoke one of them first, or choose another name.")


class TooManyWrongKeys(TooManyRequests):
    """Too many keys from one address were wrong; further ones are not looked at for `retry_after` seconds."""

    slug = "too-many-wrong-keys"
    title = "Too many wrong keys"

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "Too many keys from this address were wrong; repeat the request later.",
            limit="wrong_keys",
            retry_after=retry_after,
        )


class RateLimited(TooManyRequests):
    """A tenant asks more often than it may."""

    slug = "rate-limited"
    title = "Rate limited"

    def __init__(self, a_minute: int, retry_after: int) -> None:
        super().__init__(
            f"The tenant may send {a_minute} requests a minute; repeat this one after {retry_after} seconds.",
            limit="requests_per_minute",
            retry_after=retry_after,
        )


class QuotaExceeded(TooManyRequests):
    """The request would pass a quota of the tenant. Nothing of it was done.

    Args:
        quota: its name in `Quotas`.
        limit: how much it allows.
        advice: what makes room.
        retry_after: in how many seconds time makes some.
    """

    slug = "quota-exceeded"
    title = "Quota exceeded"

    def __init__(self, quota: str, limit: int, advice: str, retry_after: int | None = None) -> None:
        super().__init__(
            f"The request would pass the tenant's quota {quota}, which is {limit}: {advice}",
            limit=quota,
            retry_after=retry_after,
        )


class OwnTenant(Conflict):
    """Whoever asks would lock itself out."""

    slug = "own-tenant"
    title = "Own tenant"

    def __init__(self) -> None:
        super().__init__("The key that asks belongs to this tenant; use one of another tenant to disable it.")
