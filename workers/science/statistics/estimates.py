"""Means and shares of numbers that come one by one, as JSON objects with their 95 % intervals."""

from dataclasses import asdict, dataclass, field
from typing import Any

from workers.science.statistics.intervals import MeanEstimate, Moments, mean_with_interval
from workers.science.statistics.shares import ShareEstimate, share_with_interval

JSONObject = dict[str, Any]


@dataclass(slots=True)
class Mean:
    """The mean of those numbers that are known.

    Attributes:
        within: the least and the most that a number can be, if that is known.
        moments: of the numbers so far.
    """

    within: tuple[float, float] | None = None
    moments: Moments = field(default_factory=Moments)

    def add(self, number: float | None) -> None:
        """Take one number in."""
        if number is not None:
            self.moments.add(number)

    def result(self) -> JSONObject | None:
        """A `MeanEstimate`; None without a number."""
        estimate = mean_with_interval(self.moments)
        if estimate is not None and self.within is not None:
            estimate = estimate.within(*self.within)
        return as_object(estimate)


@dataclass(slots=True)
class ShareCount:
    """How many of those texts that can tell have a property."""

    n: int = 0
    count: int = 0

    def add(self, holds: bool | None) -> None:
        """Count one text."""
        if holds is not None:
            self.n += 1
            self.count += holds

    def result(self) -> JSONObject | None:
        """A `ShareEstimate`; None if no text can tell."""
        return as_object(share_with_interval(self.count, self.n))


def as_object(estimate: MeanEstimate | ShareEstimate | None) -> JSONObject | None:
    """An estimate as JSON has it."""
    return None if estimate is None else asdict(estimate)
