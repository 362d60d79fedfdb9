"""Means with bootstrap intervals, and the gain between two levels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95
N_RESAMPLES = 2000
# From here on the bootstrap distribution of a mean is normal for every practical purpose, and drawing it is
# what costs time.
LARGE_SAMPLE = 10_000
_DRAWS_AT_ONCE = 2**22

Values = Sequence[float] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of n values (or a difference of two means), and its 95 % interval.

    `low` and `high` are None where there are too few values for an interval; `mean` is None without values.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None


def mean_with_interval(values: Values, *, seed: int = 0) -> Estimate:
    """The mean and its percentile-bootstrap interval (Efron and Tibshirani 1993, section 13.3).

    Args:
        values: finite numbers.
        seed: of the resampling; the same seed gives the same interval.
    """
    sample = np.asarray(values, dtype=np.float64)
    return _estimate((sample,), _mean, n=len(sample), seed=seed)


def gain_between(low: Values, high: Values, *, seed: int = 0) -> Estimate:
    """The mean of `high` less the mean of `low`, and the interval of that difference.

    Args:
        low: values at the lower level, such as NL of texts that were never inserted.
        high: values at the higher level, such as NL of texts that were inserted 256 times.
        seed: of the resampling.

    Returns:
        `n` is the smaller of the two numbers of values.
    """
    lower, higher = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    return _estimate((higher, lower), _difference_of_means, n=min(len(lower), len(higher)), seed=seed)


def _mean(sample: Any, axis: int) -> Any:
    return np.mean(sample, axis=axis)


def _difference_of_means(higher: Any, lower: Any, axis: int) -> Any:
    return np.mean(higher, axis=axis) - np.mean(lower, axis=axis)


def _estimate(samples: tuple[npt.NDArray[np.float64], ...], statistic: Any, *, n: int, seed: int) -> Estimate:
    if n == 0:
        return Estimate(n, None, None, None)
    mean = float(statistic(*samples, axis=-1))
    if n == 1:
        return Estimate(n, mean, None, None)
    if n >= LARGE_SAMPLE:
        error = math.sqrt(sum(sample.var(ddof=1) / len(sample) for sample in samples))
        low, high = stats.norm.interval(CONFIDENCE, loc=mean, scale=error) if error > 0 else (mean, mean)
        return Estimate(n, mean, float(low), float(high))
    result = stats.bootstrap(
        samples,
        statistic,
        n_resamples=N_RESAMPLES,
        batch=max(1, _DRAWS_AT_ONCE // max(map(len, samples))),
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Estimate(n, mean, float(result.confidence_interval.low), float(result.confidence_interval.high))
