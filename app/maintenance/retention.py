"""What is not needed any more is removed after a time."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import MemauditError
from app.settings import Settings
from app.store.blobs.collecting import collect_garbage, collect_unfinished
from app.store.core.unit_of_work import Store
from app.store.factors import forget_factors
from app.store.jobs.retention import remove_ended_jobs
from app.store.webhook_deliveries import bury, remove_finished

log = structlog.get_logger()

# Between two removals.
COLLECT_SECONDS: Final = 600.0
# Few enough that nobody waits for the transaction.
ROWS_AT_ONCE = 1000


async def collect_forever(store: Store, settings: Settings) -> None:
    """Until cancelled: remove what is not needed any more. An object store that is slow holds up no sweep."""
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        try:
            await collect(store, settings)
        except (SQLAlchemyError, MemauditError) as error:
            log.warning("collection_failed", error=type(error).__name__)


async def collect(store: Store, settings: Settings) -> None:
    """Remove jobs and deliveries that ended long ago, blobs that nothing refers to, and old factors.

    The blobs of those factors are collected the next time.
    """
    await _while_full(store, remove_ended_jobs, older_than=timedelta(days=settings.jobs_kept_days))
    await _while_full(store, bury)
    await _while_full(store, remove_finished, older_than=timedelta(days=settings.webhook_kept_days))
    await collect_garbage(store)
    await store.run_long(forget_factors, older_than=timedelta(days=settings.cache_days))
    await collect_unfinished(settings.artifact_store)


async def _while_full(store: Store, step: Callable[..., int], **options: Any) -> None:
    """Repeat a step, each time in a transaction of its own, until it found fewer rows than it may take."""
    while await store.run_long(step, limit=ROWS_AT_ONCE, **options) == ROWS_AT_ONCE:
        pass
