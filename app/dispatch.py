"""The doorbell, rung after the commit, and the sweeper that rings again for what was lost."""

import asyncio
from datetime import timedelta

import structlog
from celery import Celery
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy.exc import SQLAlchemyError

from app.errors import MemauditError
from app.settings import DOORBELL_TASK, Settings
from app.store.blobs.collecting import collect_garbage, collect_unfinished
from app.store.core.unit_of_work import Store
from app.store.factors import forget_factors
from app.store.idempotency import forget_old_keys
from app.store.jobs.retention import remove_ended_jobs
from app.store.jobs.sweeping import jobs_to_ring, sweep_leases

log = structlog.get_logger()


# How long a request with an Idempotency-Key can be repeated.
KEYS_KEPT = timedelta(days=7)
# Between two removals of what is not needed any more.
COLLECT_SECONDS = 600.0
# Few enough that nobody waits for the transaction.
JOBS_AT_ONCE = 1000


class Doorbell:
    """Tells workers that there is work. A lost bell is rung again by the sweeper, so no failure matters."""

    def __init__(self, settings: Settings) -> None:
        self._celery = Celery("memaudit", set_as_current=False)
        self._celery.conf.update(settings.celery_options())
        # A bell that nobody heard for this long is worthless: the sweeper has rung again.
        self._expires = 2 * settings.lease_seconds

    def ring(self, queue: str, times: int = 1) -> None:
        """Ring once per job; blocks for a few seconds at most when the broker is away."""
        try:
            for _ in range(times):
                self._celery.send_task(
                    DOORBELL_TASK,
                    queue=queue,
                    expires=self._expires,
                    retry=True,
                    retry_policy={"max_retries": 1, "interval_start": 0},
                )
        except (BrokerError, OSError) as error:
            log.warning("doorbell_not_rung", queue=queue, error=type(error).__name__)

    def close(self) -> None:
        """Drop the connections to the broker."""
        self._celery.close()


async def sweep_forever(store: Store, doorbell: Doorbell, settings: Settings) -> None:
    """Until cancelled: take back expired leases, ring for jobs whose bell was lost or never rung."""
    while True:
        try:
            await sweep(store, doorbell, settings)
        except (SQLAlchemyError, MemauditError) as error:
            log.warning("sweep_failed", error=type(error).__name__)
        await asyncio.sleep(settings.sweep_seconds)


async def collect_forever(store: Store, settings: Settings) -> None:
    """Until cancelled: remove what is not needed any more. An object store that is slow holds up no sweep."""
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        try:
            await collect(store, settings)
        except (SQLAlchemyError, MemauditError) as error:
            log.warning("collection_failed", error=type(error).__name__)


async def collect(store: Store, settings: Settings) -> None:
    """Remove jobs that ended long ago, blobs that nothing refers to, and old factors.

    The blobs of those factors are collected the next time.
    """
    await _remove_ended_jobs(store, older_than=timedelta(days=settings.jobs_kept_days))
    await collect_garbage(store)
    await store.run(forget_factors, older_than=timedelta(days=settings.cache_days))
    await collect_unfinished(settings.artifact_store)


async def _remove_ended_jobs(store: Store, *, older_than: timedelta) -> None:
    removed = JOBS_AT_ONCE
    while removed == JOBS_AT_ONCE:
        removed = await store.run(remove_ended_jobs, older_than=older_than, limit=JOBS_AT_ONCE)


async def sweep(store: Store, doorbell: Doorbell, settings: Settings) -> None:
    """Sweep once."""
    expired = await store.run(sweep_leases, max_attempts=settings.max_attempts)
    if expired:
        log.info("leases_expired", jobs=expired)
    await store.run(forget_old_keys, older_than=KEYS_KEPT)
    bells = await store.run(jobs_to_ring, stale_seconds=settings.lease_seconds)
    for queue, times in bells.items():
        await asyncio.to_thread(doorbell.ring, queue, times)
