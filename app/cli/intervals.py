"""Numbers with their 95 % intervals, as tables show them."""

from memaudit.types import Gain, MeanInterval, ShareInterval


def mean_cell(interval: MeanInterval | Gain | None) -> str:
    """A mean with its interval, such as `-1.25 [-1.50, -1.00]`."""
    return "" if interval is None else number_cell(interval.mean, interval.low, interval.high)


def share_cell(interval: ShareInterval | None) -> str:
    """A share with its interval."""
    return "" if interval is None else number_cell(interval.share, interval.low, interval.high)


def number_cell(number: float, low: float | None, high: float | None) -> str:
    """A number with its interval, if it has one."""
    return f"{number:.2f}" if low is None or high is None else f"{number:.2f} [{low:.2f}, {high:.2f}]"
