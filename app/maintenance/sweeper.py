"""The sweeper takes back expired leases, and rings again for jobs whose bell was lost."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import MemauditError
from app.maintenance.doorbell import Doorbell
from app.settings import Settings
from app.store.core.unit_of_work import Store
from app.store.counters import Counts, add_counts, of_retry
from app.store.idempotency import forget_old_keys
from app.store.jobs.sweeping import jobs_to_ring, sweep_leases
from app.store.lifecycle import tell
from app.store.telling import find_untold

log = structlog.get_logger()

# How long a request with an Idempotency-Key can be repeated.
KEYS_KEPT: Final = timedelta(days=7)
# Why the jobs are tried again that a sweep takes back.
LEASE_EXPIRED: Final = "lease-expired"


async def sweep_forever(
    store: Store, doorbell: Doorbell, settings: Settings, count_expired: Callable[[int], object]
) -> None:
    """Until cancelled: take back expired leases, ring for jobs whose bell was lost or never rung.

    `count_expired` is told how many leases had run out.
    """
    while True:
        try:
            count_expired(await sweep(store, doorbell, settings))
        except (SQLAlchemyError, MemauditError) as error:
            log.warning("sweep_failed", error=type(error).__name__)
        await asyncio.sleep(settings.sweep_seconds)


async def sweep(store: Store, doorbell: Doorbell, settings: Settings) -> int:
    """Sweep once.

    Returns:
        How many leases had run out.
    """
    all_expired = 0
    retries = Counts()
    while expired := await store.run_long(sweep_leases, max_attempts=settings.max_attempts):
        log.info("leases_expired", jobs=len(expired))
        all_expired += len(expired)
        for lease in expired:
            if not lease.given_up:
                retries.add(of_retry(lease.kind, LEASE_EXPIRED))
    await _count(store, retries)
    for owner, owner_id in await store.run_long(find_untold):
        await store.run_long(tell, owner, owner_id)
    await store.run_long(forget_old_keys, older_than=KEYS_KEPT)
    bells = await store.run_long(jobs_to_ring, stale_seconds=settings.lease_seconds)
    for queue, times in bells.items():
        doorbell.ring(queue, times)
    return all_expired


async def _count(store: Store, retries: Counts) -> None:
    """Count what is tried again. Should that fail, less is known, and nothing else is wrong."""
    try:
        await store.run(add_counts, retries)
    except SQLAlchemyError as error:
        log.warning("retries_not_counted", error=type(error).__name__)
