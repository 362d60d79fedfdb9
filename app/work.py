"""What routes of long work share: when to come back, and waiting for a change."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

RETRY_AFTER_SECONDS: Final = "1"
POLL_SECONDS: Final = 0.1

T = TypeVar("T")


async def poll_until(read: Callable[[], Awaitable[T]], done: Callable[[T], bool], *, seconds: float) -> T:
    """Read until `done`, or until the time is over; the last reading is returned either way."""
    deadline = time.monotonic() + seconds
    while True:
        reading = await read()
        remaining = deadline - time.monotonic()
        if done(reading) or remaining <= 0:
            return reading
        await asyncio.sleep(min(POLL_SECONDS, remaining))
