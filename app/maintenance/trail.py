"""Entries of the audit trail are chained soon after they were written."""

import asyncio
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.store.core.unit_of_work import Store
from app.store.trail import chain_entries

log = structlog.get_logger()

# Until then an entry could be changed, by whoever may change the database, without a trace.
CHAIN_SECONDS: Final = 1.0
_AT_ONCE: Final = 1000


async def chain_forever(store: Store) -> None:
    """Until cancelled: chain what was written. Of several processes one does it at a time."""
    while True:
        try:
            while await store.run(chain_entries, _AT_ONCE) == _AT_ONCE:
                pass
        except SQLAlchemyError as error:
            log.warning("chaining_failed", error=type(error).__name__)
        await asyncio.sleep(CHAIN_SECONDS)
