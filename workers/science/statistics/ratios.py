"""What is kept of a share: that of the same texts or questions after a change, over that before."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from scipy import special

from workers.science.statistics.intervals import CONFIDENCE, MeanEstimate

_REACH = float(special.ndtri((1 + CONFIDENCE) / 2))


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """How often each of two properties holds of the same n things.

    Attributes:
        n: how many things.
        first: of how many the first property holds, such as a right answer before.
        second: of how many the second holds, such as a right answer after.
        both: of how many both hold.
    """

    n: int
    first: int
    second: int
    both: int

    @classmethod
    def of(cls, pairs: Iterable[tuple[bool, bool]]) -> Self:
        """Count pairs of the first and the second property."""
        n = first = second = both = 0
        for one, other in pairs:
            n, first, second, both = n + 1, first + one, second + other, both + (one and other)
        return cls(n, first, second, both)

    def ratio(self) -> MeanEstimate | None:
        """The second share over the first, at least 0; None where the first is 0.

        The interval is that of Bonett and Price (2006, Statistics in Medicine 25: 3039-3047): Wilson's
        intervals of both shares, among the things of which either holds, narrowed so that the ratio of their
        ends covers: in 0.94 to 0.98 of simulated cases for n = 30 to 200, and up to 1 where fewer than three
        things change (tests/unit/science/test_ratios.py repeats it).
        """
        if not self.first:
            return None
        gained, lost = self._changed
        either = self.both + gained + lost
        errors = [math.sqrt((1 - (count + 1) / (either + 2)) / (count + 1)) for count in self._counts]
        of_ratio = math.sqrt((gained + lost + 2) / ((self.first + 1) * (self.second + 1)))
        reach = _REACH * of_ratio / sum(errors)
        (first_low, first_high), (low, high) = (_wilson(count, either, reach) for count in self._counts)
        return MeanEstimate(self.n, self.second / self.first, low / first_high, high / first_low)

    @property
    def _counts(self) -> tuple[int, int]:
        return self.first, self.second

    @property
    def _changed(self) -> tuple[int, int]:
        """Of how many the second alone holds, and of how many the first alone."""
        return self.second - self.both, self.first - self.both


def _wilson(count: int, n: int, reach: float) -> tuple[float, float]:
    """Wilson's interval of a share, for a normal quantile."""
    half = reach * math.sqrt(reach**2 + 4 * count * (1 - count / n))
    middle, width = 2 * count + reach**2, 2 * (n + reach**2)
    return max(0.0, middle - half) / width, (middle + half) / width
