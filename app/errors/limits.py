"""What a tenant asks beyond its limits."""

from app.errors.base import TooManyRequests


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
