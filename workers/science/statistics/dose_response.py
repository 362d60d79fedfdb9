"""How NL rises with insertions, and how many insertions a text's NL is worth.

Between levels of duplicates everything is interpolated over log(1 + duplicates).

A text of unknown count is compared with the texts of each known level, as one of which it would be drawn at
random. A level is excluded if the text's NL is among the outer 5 % there (2.5 % at either end). From 39
texts on that is a conformal test, which holds whatever the distribution (Vovk, Gammerman and Shafer 2005,
"Algorithmic Learning in a Random World", chapter 2); fewer cannot have so small a share at an end, and
Student's prediction interval takes its place. That is set to 96 %, which was chosen by simulation: at 95 %
it would cover six exponential numbers in 0.927 of cases.

Simulated coverage of a level between others, to be 0.95 (20,000 samples for each, so within 0.004;
tests/unit/science/test_dose_response.py repeats it with 4,000):

    numbers                    n = 6   n = 12   n = 38   n = 39   n = 200
    normal                      0.96     0.96     0.96     0.95      0.95
    exponential                 0.93     0.94     0.95     0.95      0.95
    log-normal, sigma 0.5       0.94     0.94     0.95     0.95      0.95

The lowest and the highest level hold what lies beyond them too: what is left of their 5 % is at one end, so
that they are covered in 0.93 of cases or more, in all where that end has no tail.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from workers.science.statistics.intervals import CONFIDENCE, Moments

# Of fewer texts nothing is said of how NL scatters at a level.
FEWEST_TEXTS: Final = 6
# So many say how it does: 12 of them are the outer 2.5 %.
MOST_TEXTS: Final = 500
_TAIL: Final = (1 - CONFIDENCE) / 2
# So many texts are the fewest of which one at an end is unlikely enough.
_CONFORMAL_TEXTS: Final = round(1 / _TAIL) - 1
_UPPER_FOR_FEW: Final = (1 + 0.96) / 2
_DECIMALS: Final = 6

Numbers = npt.NDArray[np.float64]


class Sample:
    """NL of the texts of one level, which come one by one.

    Attributes:
        moments: of all of them.
    """

    def __init__(self) -> None:
        self.moments = Moments()
        self._kept = array("d")
        self._step = 1

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Self:
        """A sample of some numbers."""
        sample = cls()
        for number in numbers:
            sample.add(number)
        return sample

    def add(self, number: float) -> None:
        """Take one number in, which is finite."""
        if self.moments.n % self._step == 0:
            if len(self._kept) == MOST_TEXTS:
                self._kept = self._kept[::2]
                self._step *= 2
            self._kept.append(number)
        self.moments.add(number)

    @property
    def scatter(self) -> Numbers:
        """All of them in order, or evenly spaced ones: never more than MOST_TEXTS."""
        return np.array(self._kept, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Equivalents:
    """Texts' equivalent duplicates and the 95 % interval of each: three arrays [texts], at least 0.

    What lies beyond the known levels gets the nearest of them; of levels that NL does not tell apart there,
    the interval holds all.
    """

    duplicates: Numbers
    low: Numbers
    high: Numbers


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """NL by duplicates, monotone, and the scatter of texts around it.

    Attributes:
        levels: known numbers of duplicates [levels], fewest first.
        fitted: the isotonic fit of the mean NL at each [levels], in nats per token, which never falls.
        lowest: NL below which a text is no longer taken for one of the level or a higher one [levels].
        highest: NL above which it is no longer taken for one of the level or a lower one [levels].
    """

    levels: Numbers
    fitted: Numbers
    lowest: Numbers
    highest: Numbers

    def equivalents(self, nl: Numbers) -> Equivalents:
        """How many insertions each NL [texts] is worth: the fit turned round.

        Where several levels have the same fitted NL, it is the middle of them over log(1 + duplicates), and
        where several have the same bound, a text at it may be of any of them.
        """
        places = np.log1p(self.levels)
        plateaus, first, count = np.unique(self.fitted, return_index=True, return_counts=True)
        middles = (places[first] + places[first + count - 1]) / 2
        low = _reached(nl, self.highest, places, "left")
        high = _reached(nl, self.lowest, places, "right")
        found = np.clip(np.interp(nl, plateaus, middles), low, high)
        # A level is one exactly, which the logarithm and back would make 255.9999999999999.
        return Equivalents(*(np.round(np.expm1(each), _DECIMALS) for each in (found, low, high)))


def fit_dose_response(samples: Mapping[int, Sample]) -> DoseResponse | None:
    """Fit NL over duplicates, each level weighted by its number of texts.

    Args:
        samples: NL of the texts of each known level.

    Returns:
        None without two levels of FEWEST_TEXTS or more; levels of fewer are left out.
    """
    enough = {level: each for level, each in sorted(samples.items()) if each.moments.n >= FEWEST_TEXTS}
    if len(enough) < 2:  # noqa: PLR2004 - a line takes two points
        return None
    moments = [sample.moments for sample in enough.values()]
    fit = optimize.isotonic_regression([each.mean for each in moments], weights=[each.n for each in moments])
    bounds = np.array([prediction_bounds(sample.scatter) for sample in enough.values()])
    return DoseResponse(
        levels=np.array(list(enough), dtype=np.float64),
        fitted=np.asarray(fit.x, dtype=np.float64),
        # Both are made monotone by reaching further, so that no level is excluded that its own texts keep.
        lowest=np.minimum.accumulate(bounds[::-1, 0])[::-1],
        highest=np.maximum.accumulate(bounds[:, 1]),
    )


def _reached(nl: Numbers, bounds: Numbers, places: Numbers, side: Literal["left", "right"]) -> Numbers:
    """Where each NL [texts] stands among bounds that never fall [levels].

    Of equal bounds the place of the first (left) or of the last (right); between bounds, interpolated.
    """
    within = np.clip(nl, bounds[0], bounds[-1])
    at = np.searchsorted(bounds, within, side) - (side == "right")
    return np.where(bounds[at] == within, places[at], np.interp(within, bounds, places))


def prediction_bounds(sample: Numbers) -> tuple[float, float]:
    """Between which one more number lies in 95 of 100 cases, drawn as the sample [n] was; n at least 2."""
    n = len(sample)
    if n >= _CONFORMAL_TEXTS:
        ordered = np.sort(sample)
        # Rounding must not make 0.025 * 40 less than 1.
        outer = int(_TAIL * (n + 1) + 1e-9)
        return float(ordered[outer - 1]), float(ordered[n - outer])
    reach = special.stdtrit(n - 1, _UPPER_FOR_FEW) * sample.std(ddof=1) * np.sqrt(1 + 1 / n)
    return float(sample.mean() - reach), float(sample.mean() + reach)
