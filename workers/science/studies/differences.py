"""Two language models on the same texts, text by text."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from workers.science.statistics.intervals import Moments

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Transitions:
    """Texts that two models recite (strict) or not, and McNemar's test of whether one recites more.

    Attributes:
        both: recited by both.
        lost: recited by the first alone.
        gained: recited by the second alone.
        neither: recited by none.
        p_value: exact, two-sided, in (0, 1]: the binomial test of `lost` against `gained` (McNemar 1947,
            Psychometrika 12: 153-157). 1 where no text changed.
    """

    both: int
    lost: int
    gained: int
    neither: int
    p_value: float


def moments_of(numbers: Numbers) -> Moments:
    """The moments of finite numbers [n], all at once."""
    if not len(numbers):
        return Moments()
    mean = float(numbers.mean())
    deviations = numbers - mean
    squares = deviations * deviations
    return Moments(len(numbers), mean, float(squares.sum()), float((squares * deviations).sum()))


def transitions(first: Numbers, second: Numbers) -> Transitions | None:
    """Who recites what, of texts [texts] with 1 for recited, 0 for not and NaN for what cannot be told.

    None if no text can be told under both.
    """
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return None
    before, after = first[known] > 0, second[known] > 0
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    return Transitions(
        both=int((before & after).sum()),
        lost=lost,
        gained=gained,
        neither=int((~before & ~after).sum()),
        p_value=float(stats.binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0,
    )
