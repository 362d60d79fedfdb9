"""Work on files and digests, beside the event loop. Its synchronous twin does it at once."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def blocking(work: Callable[[], T]) -> T:
    """What some blocking work returns."""
    return await asyncio.to_thread(work)


async def sleep(seconds: float) -> None:
    """Wait."""
    await asyncio.sleep(seconds)
