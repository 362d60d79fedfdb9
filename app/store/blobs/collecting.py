"""Deleting blobs that nothing refers to any more, from the API."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy.orm import Session

from app.errors import StorageUnavailable
from app.store.blobs.garbage import condemn_blobs, delete_blob, lock_condemned_blob
from app.store.blobs.objects import objects_at
from app.store.blobs.rows import POSTGRES
from app.store.core.unit_of_work import Store

log = structlog.get_logger()

# Long enough to store the files of an artifact one by one before the artifact is written.
KEPT_UNREFERENCED: Final = timedelta(hours=1)
# A writer that lives adds to its file every few minutes.
KEPT_UNFINISHED: Final = timedelta(days=1)
_BLOBS_AT_ONCE: Final = 100


async def collect_garbage(store: Store, *, older_than: timedelta = KEPT_UNREFERENCED) -> int:
    """Delete blobs that nothing refers to and that nobody has put for a while.

    Returns:
        How many were deleted.
    """
    deleted = 0
    away: set[str] = set()
    for sha256, location in await store.run_long(condemn_blobs, older_than=older_than, limit=_BLOBS_AT_ONCE):
        if location in away:
            continue
        async with store.transaction() as session:
            if not await session.run_sync(_lock, sha256, older_than):
                continue
            if location != POSTGRES:
                try:
                    await asyncio.to_thread(objects_at(location).delete, sha256)
                except StorageUnavailable:
                    away.add(location)  # all that is condemned there is collected another time
                    continue
            await session.run_sync(delete_blob, sha256)
            deleted += 1
    if deleted:
        log.info("blobs_collected", blobs=deleted)
    return deleted


async def collect_unfinished(location: str) -> None:
    """Delete what killed writers left at the place of new blobs.

    Raises:
        StorageUnavailable: it cannot be read.
    """
    if location != POSTGRES:
        await asyncio.to_thread(objects_at(location).delete_unfinished, older_than=KEPT_UNFINISHED)


def _lock(session: Session, sha256: str, older_than: timedelta) -> bool:
    return lock_condemned_blob(session, sha256, older_than=older_than)
