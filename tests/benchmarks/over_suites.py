"""Numbers of several suites as one: their mean, with the 95 % interval over the suites."""

from collections.abc import Callable, Sequence

from workers.science.statistics.intervals import Moments, mean_with_interval


def mean_over_suites(
    numbers: Sequence[float | None],
    write: Callable[[float], str] = "{:.2f}".format,
    *,
    least: float = float("-inf"),
    most: float = float("inf"),
) -> str:
    """A cell of a table, such as `0.06 [0.02, 0.10]`; without a suite that has no number.

    The interval is of what another seed would give (`mean_with_interval`), not of the texts of one suite.
    There is none where all suites say the same.
    """
    known = [number for number in numbers if number is not None]
    found = mean_with_interval(Moments.of(known))
    if found is None:
        return ""
    found = found.within(least, most)
    cell = write(found.mean)
    if found.low is not None and found.high is not None:
        cell += f" [{write(found.low)}, {write(found.high)}]"
    return cell if len(known) == len(numbers) else f"{cell} (of {len(known)})"


def change(number: float) -> str:
    """A share by which something grew."""
    return f"{number:+.1%}"
