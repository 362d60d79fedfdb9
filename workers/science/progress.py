"""How far work is that is done in parts."""

from collections.abc import Callable
from functools import partial

OnProgress = Callable[[int], None]


def counted_from(before: int, on_progress: OnProgress) -> OnProgress:
    """What a part is given to report to, where `before` was done before it."""
    return partial(_report, before, on_progress)


def _report(before: int, on_progress: OnProgress, done: int) -> None:
    on_progress(before + done)
