"""What is not needed any more is removed after a time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.errors import MemauditError
from app.settings import Settings
from app.signing.keys import SigningKeys, signing_keys_if_any
from app.store.blobs.collecting import collect_garbage, collect_unfinished
from app.store.conversion import convert_some
from app.store.core.unit_of_work import Store
from app.store.factors import forget_factors
from app.store.jobs.retention import remove_ended_jobs
from app.store.partial_factors import forget_partial_factors
from app.store.retention import (
    expire_events,
    expire_evidence,
    expire_text_set,
    next_expired_text_set,
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
        await collect(store, settings)
        await expire(store, settings)


async def collect(store: Store, settings: Settings) -> None:
    """Remove jobs and deliveries that ended long ago, blobs that nothing refers to, old and partial factors.

    The blobs of those factors are collected the next time. What was used is summed up. What fails is tried
    again the next time, and keeps nothing else from being done.
    """
    jobs_kept = timedelta(days=settings.jobs_kept_days)
    deliveries_kept = timedelta(days=settings.webhook_kept_days)
    await _try("jobs", _while_any(store, remove_ended_jobs, older_than=jobs_kept))
    await _try("overdue_deliveries", _while_any(store, bury))
    await _try("deliveries", _while_any(store, remove_finished, older_than=deliveries_kept))
    await _try("usage", store.run_long(merge_seconds))
    await _try("blobs", collect_garbage(store))
    await _try("partial_factors", store.run_long(forget_partial_factors))
    await _try("factors", store.run_long(forget_factors, older_than=timedelta(days=settings.cache_days)))
    await _try("unfinished_blobs", collect_unfinished(settings.artifact_store))


async def expire(store: Store, settings: Settings) -> None:
    """Erase what tenants keep no longer, and seal what a process of an older release has written meanwhile.

    What fails is tried again the next time, and keeps nothing else from being done.
    """
    await _try("tenants", _expire_all(store, settings))
    await _try("conversion", _convert(store))


async def _expire_all(store: Store, settings: Settings) -> None:
    keys = await asyncio.to_thread(signing_keys_if_any, settings.signing_keys_directory)
    for tenant_id, retention in await store.run(tenants_that_expire):
        if (days := retention.text_sets_days) is not None:
            await _try("text_sets", _expire_text_sets(store, tenant_id, days, keys))
        if (days := retention.evidence_days) is not None:
            await _try("evidence", _while_any(store, expire_evidence, tenant_id, days))
        if (days := retention.events_days) is not None:
            await _try("events", _while_any(store, expire_events, tenant_id, days))


async def _expire_text_sets(store: Store, tenant_id: UUID, days: int, keys: SigningKeys | None) -> None:
    """Erase what is older than so many days, each set in one transaction, as if its tenant asked for it.

    One that cannot be erased keeps no other.
    """
    after = UUID(int=0)
    while text_set_id := await store.run_long(next_expired_text_set, tenant_id, days, after=after):
        after = text_set_id
        await _try("text_sets", store.run_long(expire_text_set, tenant_id, text_set_id, days, keys))


async def _convert(store: Store) -> None:
    while await store.run_long(convert_some):
        pass


async def _try(step: str, work: Awaitable[object]) -> None:
    """Do one thing of many; that it failed is said in the log."""
    try:
        await work
    except (SQLAlchemyError, MemauditError, OSError) as error:
        log.warning("collection_failed", step=step, error=type(error).__name__)


async def _while_any(store: Store, step: Callable[..., int], *arguments: Any, **options: Any) -> None:
    """Repeat a step, each time in a transaction of its own, until it finds nothing more."""
    while await store.run_long(step, *arguments, limit=ROWS_AT_ONCE, **options):
        pass
