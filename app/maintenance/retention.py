"""What is not needed any more is removed after a time."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import MemauditError
from app.settings import Settings
from app.store.blobs.collecting import collect_garbage, collect_unfinished
from app.store.core.unit_of_work import Store
from app.store.factors import forget_factors
from app.store.jobs.retention import remove_ended_jobs
from app.store.usage import merge_seconds

log = structlog.get_logger()

# Between two removals.
COLLECT_SECONDS: Final = 600.0
# Few enough that nobody waits for the transaction.
JOBS_AT_ONCE = 1000


async def collect_forever(store: Store, settings: Settings) -> None:
    """Until cancelled: remove what is not needed any more. An object store that is slow holds up no sweep."""
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        try:
            await collect(store, settings)
        except (SQLAlchemyError, MemauditError) as error:
            log.warning("collection_failed", error=type(error).__name__)


async def collect(store: Store, settings: Settings) -> None:
    """Remove jobs that ended long ago, blobs that nothing refers to, and old factors; sum up what was used.

    The blobs of those factors are collected the next time.
    """
    await _remove_ended_jobs(store, older_than=timedelta(days=settings.jobs_kept_days))
    await store.run(merge_seconds)
    await collect_garbage(store)
    await store.run(forget_factors, older_than=timedelta(days=settings.cache_days))
    await collect_unfinished(settings.artifact_store)


async def _remove_ended_jobs(store: Store, *, older_than: timedelta) -> None:
    removed = JOBS_AT_ONCE
    while removed == JOBS_AT_ONCE:
        removed = await store.run(remove_ended_jobs, older_than=older_than, limit=JOBS_AT_ONCE)
