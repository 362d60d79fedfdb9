"""How memorization rises and falls over the checkpoints of a run.

Excess is the mean NL of texts with some number of duplicates less that of texts that were never inserted, at
the same checkpoint: what the run learns of language moves both alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy import optimize

from workers.science.statistics.intervals import MeanEstimate, gain_between
from workers.science.studies.differences import Numbers, moments_of


@dataclass(frozen=True, slots=True)
class HalfLife:
    """After how many steps from the peak half of the excess was lost, at least 0, and the 95 % interval.

    Attributes:
        steps: None where more than half is left at the end.
        low: None where even the interval's lower end leaves more than half.
        high: None where the interval's upper end leaves more than half: the half-life may be beyond the run.
    """

    steps: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Peak:
    """Where the excess is greatest: the place of the checkpoint, and the excess there in nats per token."""

    place: int
    excess: MeanEstimate


def find_peak(texts: Numbers, baseline: Numbers) -> Peak | None:
    """Where texts are memorized most.

    Args:
        texts: NL of the texts of a level [texts, checkpoints].
        baseline: NL of texts that were never inserted [texts, checkpoints].

    Returns:
        The first of the greatest; None without texts of both kinds.
    """
    if not len(texts) or not len(baseline):
        return None
    place = int(np.argmax(texts.mean(0) - baseline.mean(0)))
    excess = _excess(texts[:, place], baseline[:, place])
    return Peak(place, excess)


def find_half_life(texts: Numbers, baseline: Numbers, steps: Sequence[float], peak: int) -> HalfLife | None:
    """After how many steps from the peak half of its excess was lost.

    At each later step NL less half of the NL at the peak is compared between the texts and those never
    inserted; the difference, which is the excess there less half of that at the peak, falls through 0 at the
    half-life. It is a difference of means, so that its interval is known, and those half-lives at which it
    may be 0 are the interval of the half-life (Fieller 1954, Journal of the Royal Statistical Society B 16:
    175-185). Between checkpoints NL is interpolated. The peak's place is taken as given. No curve is assumed,
    so that a run may forget as it will.

    Args:
        texts: NL of the texts of a level [texts, checkpoints].
        baseline: NL of texts that were never inserted [texts, checkpoints].
        steps: of the checkpoints, rising.
        peak: the place of the peak.

    Returns:
        None where the peak is the last checkpoint, or not clearly above the baseline.
    """
    top = _excess(texts[:, peak], baseline[:, peak])
    if peak == len(steps) - 1 or top.low is None or top.low <= 0:
        return None

    def left(step: float) -> MeanEstimate:
        """How much more than half is left."""
        return _excess(*(_at(each, steps, step) - each[:, peak] / 2 for each in (texts, baseline)))

    after = steps[peak:]
    crossings = (
        _first_crossing(after, number)
        for number in (
            lambda step: left(step).mean,
            lambda step: _end(left(step), "low"),
            lambda step: _end(left(step), "high"),
        )
    )
    return HalfLife(*(None if step is None else step - steps[peak] for step in crossings))


def _excess(texts: Numbers, baseline: Numbers) -> MeanEstimate:
    found = gain_between(moments_of(baseline), moments_of(texts))
    assert found is not None
    return found


def _end(estimate: MeanEstimate, which: Literal["low", "high"]) -> float:
    end: float | None = getattr(estimate, which)
    return estimate.mean if end is None else end


def _at(numbers: Numbers, steps: Sequence[float], step: float) -> Numbers:
    """Numbers [texts, checkpoints] at a step [texts], interpolated."""
    after = int(np.searchsorted(steps, step))
    if steps[after] == step:
        return numbers[:, after]
    share = (step - steps[after - 1]) / (steps[after] - steps[after - 1])
    return (1 - share) * numbers[:, after - 1] + share * numbers[:, after]


def _first_crossing(steps: Sequence[float], number: Callable[[float], float]) -> float | None:
    """Where a number first falls to 0, sought from the first checkpoint on at which it has; else None."""
    for before, here in pairwise(steps):
        if number(here) <= 0:
            return before if number(before) <= 0 else float(optimize.brentq(number, before, here))
    return None
