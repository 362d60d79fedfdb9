"""Work on files and digests, at once. Its asynchronous twin does it beside the event loop."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def blocking(work: Callable[[], T]) -> T:
    """What some blocking work returns."""
    return work()


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)
