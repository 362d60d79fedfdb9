"""The same texts twice, such as before and after an edit: what changed, text by text, with 95 % intervals."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

from workers.science.statistics.estimates import as_object
from workers.science.statistics.intervals import (
    MeanEstimate,
    Moments,
    Values,
    gain_between,
    mean_with_interval,
)
from workers.science.statistics.ranking import placements
from workers.science.statistics.shares import share_with_interval

JSONObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ShareChange:
    """How many of `n` texts have a property after a change, less how many had it before.

    Attributes:
        n: texts of which both is known.
        lost: had it before alone.
        gained: have it after alone.
        difference: (gained - lost) / n, in [-1, 1]; negative = fewer have it.
        low: where the 95 % interval begins.
        high: where it ends.
    """

    n: int
    lost: int
    gained: int
    difference: float
    low: float
    high: float


def share_change(pairs: Iterable[tuple[bool | None, bool | None]]) -> ShareChange | None:
    """The difference of two shares of the same texts; None if no text is known on both sides.

    The interval is Newcombe's tenth (1998, Statistics in Medicine 17: 2635-2650): it joins the intervals of
    the two shares, here Blaker's, by the correlation of the pairs, which counts as 0 where a share is 0 or 1.
    It has a width where all texts changed alike. Simulated coverage is 0.95 to 1.00 for n = 12 to 100 and
    shares of 0 to 1 (tests/unit/science/test_paired.py repeats some of it).
    """
    counts = Counter(pairs)
    both, lost, gained, neither = (
        counts[pair] for pair in ((True, True), (True, False), (False, True), (False, False))
    )
    n = both + lost + gained + neither
    if n == 0:
        return None
    before, after = share_with_interval(both + lost, n), share_with_interval(both + gained, n)
    assert before is not None
    assert after is not None
    correlation = _correlation(both, lost, gained, neither)
    difference = (gained - lost) / n

    def reach(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first**2 + second**2 - 2 * correlation * first * second))

    low = difference - reach(after.share - after.low, before.high - before.share)
    high = difference + reach(after.high - after.share, before.share - before.low)
    return ShareChange(n, lost, gained, difference, max(-1.0, low), min(1.0, high))


def _correlation(both: int, lost: int, gained: int, neither: int) -> float:
    """The correlation of pairs by their four counts; 0 where one side is all alike."""
    sizes = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    return (both * neither - lost * gained) / math.sqrt(sizes) if sizes else 0.0


def auc_change(members: tuple[Values, Values], others: tuple[Values, Values]) -> MeanEstimate | None:
    """The change of a ROC AUC where the same texts were scored twice.

    DeLong's covariance (1988, Biometrics 44: 837-845): of each text counts how far its placement moved, so
    that what makes texts easy or hard drops out. The interval is that of a difference of two means.

    Args:
        members: scores of the members before and after, text by text, [n] each.
        others: scores of the other texts before and after, [m] each.

    Returns:
        In [-1, 1], negative = members stand out less; `n` is the smaller of n and m. No interval where
        placements of one side all moved alike. None without members or without others.
    """
    if not (len(members[0]) and len(others[0])):
        return None
    (above, below), (above_after, below_after) = (
        placements(*(np.asarray(side[when], np.float64) for side in (members, others))) for when in (0, 1)
    )
    moved = above_after - above
    # Both sides have the change as their mean; it must count once.
    found = gain_between(
        Moments.of((float(moved.mean()) - (below_after - below)).tolist()), Moments.of(moved.tolist())
    )
    return None if found is None else found.within(-1.0, 1.0)


@dataclass(slots=True)
class PairedMeans:
    """Means of numbers before and after, and of their change, over texts that have both.

    Attributes:
        within: the least and the most that a number can be, if that is known.
    """

    within: tuple[float, float] | None = None
    _before: Moments = field(default_factory=Moments)
    _after: Moments = field(default_factory=Moments)
    _change: Moments = field(default_factory=Moments)

    def add(self, before: float | None, after: float | None) -> None:
        """Take one text in, if both are known."""
        if before is None or after is None:
            return
        self._before.add(before)
        self._after.add(after)
        self._change.add(after - before)

    def result(self) -> JSONObject:
        """`before`, `after` and `change`, each a `MeanEstimate` or None without a text."""
        before, after, change = (
            mean_with_interval(moments) for moments in (self._before, self._after, self._change)
        )
        if self.within is not None and before and after and change:
            least, most = self.within
            before, after = before.within(least, most), after.within(least, most)
            change = change.within(least - most, most - least)
        return {"before": as_object(before), "after": as_object(after), "change": as_object(change)}


@dataclass(slots=True)
class PairedShares:
    """Shares of texts before and after, and their change."""

    _counts: Counter[tuple[bool | None, bool | None]] = field(default_factory=Counter)

    @classmethod
    def of(cls, pairs: Iterable[tuple[bool | None, bool | None]]) -> Self:
        """Of all pairs."""
        return cls(Counter(pairs))

    def add(self, before: bool | None, after: bool | None) -> None:
        """Take one text in."""
        self._counts[before, after] += 1

    def result(self) -> JSONObject:
        """`before` and `after` (`ShareEstimate`) and `change` (`ShareChange`); None without a text."""
        change = share_change(self._counts.elements())
        return {
            "before": self._share(0),
            "after": self._share(1),
            "change": None if change is None else asdict(change),
        }

    def _share(self, side: int) -> JSONObject | None:
        known = Counter[bool | None]()
        for pair, count in self._counts.items():
            known[pair[side]] += count
        return as_object(share_with_interval(known[True], known[True] + known[False]))
