"""What an API process does besides answering, and that it does it for as long as it lives."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

log = structlog.get_logger()

BEGIN_AGAIN_SECONDS: Final = 5.0


async def keep_up(name: str, work: Callable[[], Awaitable[None]], pause: float = BEGIN_AGAIN_SECONDS) -> None:
    """Until cancelled: do work that never ends, and begin again should it end by a failure nobody foresaw.

    Else a process would live on that rings no bell any more, or ends no revoked request, and none would know.
    """
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - whatever it is; only its type is logged
            log.error("work_failed", work=name, error=type(error).__name__)  # noqa: TRY400 - no traceback
        await asyncio.sleep(pause)
