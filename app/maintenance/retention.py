"""What is not needed any more is removed after a time."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import MemauditError
from app.settings import Settings
from app.signing.keys import signing_keys_if_any
from app.store.blobs.collecting import collect_garbage, collect_unfinished
from app.store.conversion import convert_some
from app.store.core.unit_of_work import Store
from app.store.factors import forget_factors
from app.store.jobs.retention import remove_ended_jobs
from app.store.retention import (
    expire_events,
    expire_evidence,
    expire_text_set,
    tenants_that_expire,
)
from app.store.usage import merge_seconds
from app.store.webhook_deliveries import bury, remove_finished

log = structlog.get_logger()

# Between two removals.
COLLECT_SECONDS: Final = 600.0
# Few enough that nobody waits for the transaction.
ROWS_AT_ONCE: Final = 1000


async def collect_forever(store: Store, settings: Settings) -> None:
    """Until cancelled: remove what is not needed any more. An object store that is slow holds up no sweep."""
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        try:
            await collect(store, settings)
            await expire(store, settings)
        except (SQLAlchemyError, MemauditError) as error:
            log.warning("collection_failed", error=type(error).__name__)


async def collect(store: Store, settings: Settings) -> None:
    """Remove jobs and deliveries that ended long ago, blobs that nothing refers to, and old factors.

    The blobs of those factors are collected the next time. What was used is summed up.
    """
    await _while_any(store, remove_ended_jobs, older_than=timedelta(days=settings.jobs_kept_days))
    await _while_any(store, bury)
    await _while_any(store, remove_finished, older_than=timedelta(days=settings.webhook_kept_days))
    await store.run_long(merge_seconds)
    await collect_garbage(store)
    await store.run_long(forget_factors, older_than=timedelta(days=settings.cache_days))
    await collect_unfinished(settings.artifact_store)


async def expire(store: Store, settings: Settings) -> None:
    """Erase what tenants keep no longer, and seal what a process of an older release has written meanwhile.

    A text set is erased in one transaction, as if its tenant had asked for it; what else, a batch in each.
    """
    keys = await asyncio.to_thread(signing_keys_if_any, settings.signing_keys_directory)
    for tenant_id, retention in await store.run(tenants_that_expire):
        if (days := retention.text_sets_days) is not None:
            after: UUID | None = UUID(int=0)
            while after is not None:
                after = await store.run_long(expire_text_set, tenant_id, days, keys, after=after)
        if (days := retention.evidence_days) is not None:
            await _while_any(store, expire_evidence, tenant_id, days)
        if (days := retention.events_days) is not None:
            await _while_any(store, expire_events, tenant_id, days)
    while await store.run_long(convert_some):
        pass


async def _while_any(store: Store, step: Callable[..., int], *arguments: Any, **options: Any) -> None:
    """Repeat a step, each time in a transaction of its own, until it finds nothing more."""
    while await store.run_long(step, *arguments, limit=ROWS_AT_ONCE, **options):
        pass
