"""Numbers with their 95 % intervals, as tables show them."""

from app.cli.client import JSON


def mean_cell(interval: JSON | None) -> str:
    """A mean with its interval, such as `-1.25 [-1.50, -1.00]`."""
    return "" if interval is None else _cell(interval["mean"], interval)


def share_cell(interval: JSON | None) -> str:
    """A share with its interval."""
    return "" if interval is None else _cell(interval["share"], interval)


def _cell(number: float, interval: JSON) -> str:
    low, high = interval["low"], interval["high"]
    return f"{number:.2f}" if low is None else f"{number:.2f} [{low:.2f}, {high:.2f}]"
