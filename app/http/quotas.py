"""Quotas of tenants: what a request adds is counted in its own transaction, last of all that it does.

Those who add for one tenant count one after the other, so that no two together pass what neither would alone.
Whoever is refused has changed nothing.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from math import ceil

from sqlalchemy.orm import Session

from app.contracts.tenants import Quotas
from app.errors import QuotaExceeded
from app.store.tenants import Principal
from app.store.usage import GPUSeconds, count_active, gpu_seconds, stored, take_turn

# When to come again who has too much under way: nobody knows when some of it ends.
_LATER_SECONDS = 30


def require_work(session: Session, principal: Principal) -> None:
    """Refuse work that was just written if it passes the tenant's quotas.

    Raises:
        QuotaExceeded: too much has not ended, or as many GPU-seconds as may be are used up.
    """
    quotas = principal.quotas
    if quotas.concurrent_operations is not None:
        take_turn(session, principal.tenant_id)
        most = quotas.concurrent_operations
        if count_active(session, principal.tenant_id, most + 1) > most:
            raise QuotaExceeded(
                "concurrent_operations", most, "let something end, or cancel it.", _LATER_SECONDS
            )
    if quotas.gpu_seconds_per_day is not None or quotas.gpu_seconds_per_month is not None:
        _require_gpu_seconds(quotas, gpu_seconds(session, principal.tenant_id))


def _require_gpu_seconds(quotas: Quotas, used: GPUSeconds) -> None:
    for quota, limit, seconds, ends_at in (
        ("gpu_seconds_per_month", quotas.gpu_seconds_per_month, used.this_month, used.month_ends_at),
        ("gpu_seconds_per_day", quotas.gpu_seconds_per_day, used.today, used.day_ends_at),
    ):
        if limit is not None and seconds >= limit:
            wait = ceil((ends_at - datetime.now(UTC)).total_seconds())
            advice = f"more are there from {ends_at:%Y-%m-%d} (UTC) on."
            raise QuotaExceeded(quota, limit, advice, max(1, wait))


def require_room_left(session: Session, principal: Principal) -> None:
    """Refuse texts that were just written if the tenant stores too much.

    Raises:
        QuotaExceeded: there are too many texts or bytes.
    """
    if _bounds_storage(principal.quotas):
        take_turn(session, principal.tenant_id)
        require_room_to_come(session, principal)


def require_room_to_come(session: Session, principal: Principal) -> None:
    """Refuse work that will store something if the tenant stores too much already.

    What a worker stores is known when it is done, and not thrown away then: so it may pass the quota once.
    Yet nothing is added, so no turn is taken: a request that held one from its middle on would go on to wait
    for rows whose holders may wait for the turn.

    Raises:
        QuotaExceeded: there are too many texts or bytes.
    """
    if not _bounds_storage(principal.quotas):
        return
    for quota, limit, used in _storage(principal.quotas, stored(session, principal.tenant_id)):
        if used > limit:
            raise QuotaExceeded(quota, limit, "erase text sets or delete artifacts.")


def _bounds_storage(quotas: Quotas) -> bool:
    return quotas.stored_texts is not None or quotas.stored_bytes is not None


def _storage(quotas: Quotas, used: tuple[int, int]) -> Iterator[tuple[str, int, int]]:
    texts, size = used
    if quotas.stored_texts is not None:
        yield "stored_texts", quotas.stored_texts, texts
    if quotas.stored_bytes is not None:
        yield "stored_bytes", quotas.stored_bytes, size
