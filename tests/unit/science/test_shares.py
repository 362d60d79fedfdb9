"""Shares. Oracles: coverage, by enumeration of all counts; Blaker's definition; Clopper and Pearson."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from workers.science.statistics.shares import ShareEstimate, share_with_interval

SHARES = np.linspace(0.0005, 0.9995, 2000)


def ends(n: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    estimates = [share_with_interval(count, n) for count in range(n + 1)]
    assert all(estimates)
    return (
        np.array([estimate.low for estimate in estimates if estimate]),
        np.array([estimate.high for estimate in estimates if estimate]),
    )


@pytest.mark.parametrize("n", [6, 9, 30, 100, 300])
def test_the_interval_covers_every_share_in_95_of_100_cases_and_seldom_in_more(n: int) -> None:
    """Exact: the probabilities of all counts whose intervals hold a share, added up, for shares on a grid."""
    low, high = ends(n)
    probability = stats.binom.pmf(np.arange(n + 1)[None], n, SHARES[:, None])
    covered = (probability * ((low <= SHARES[:, None]) & (SHARES[:, None] <= high))).sum(1)
    assert covered.min() >= 0.9499
    expected = n * np.minimum(SHARES, 1 - SHARES)
    if n >= 30:
        assert covered[expected >= 5].max() <= 0.98
    else:
        assert covered[(SHARES >= 0.1) & (SHARES <= 0.9)].max() <= 0.995


def is_accepted(share: float, count: int, n: int) -> bool:
    """By definition: whether the counts whose nearer tail is as light have more than 5 % together."""
    counts = np.arange(n + 1)
    tail = np.minimum(stats.binom.cdf(counts, n, share), stats.binom.sf(counts - 1, n, share))
    unlikely = tail <= tail[count] * (1 + 1e-9)
    return bool(stats.binom.pmf(counts, n, share)[unlikely].sum() > 0.05)


@pytest.mark.parametrize(("count", "n"), [(0, 1), (1, 2), (0, 6), (1, 6), (3, 6), (6, 6), (4, 9), (29, 30)])
def test_the_interval_is_from_the_first_share_to_the_last_that_blaker_accepts(count: int, n: int) -> None:
    estimate = share_with_interval(count, n)
    assert estimate is not None
    accepted = [share for share in SHARES if is_accepted(share, count, n)]
    step = 1.001 * (SHARES[1] - SHARES[0])
    assert accepted[0] - step <= estimate.low <= accepted[0]
    assert accepted[-1] <= estimate.high <= accepted[-1] + step


@pytest.mark.parametrize(("count", "n"), [(0, 9), (9, 9), (1, 6), (25, 30), (3, 300), (500, 100_000)])
def test_the_interval_lies_within_clopper_and_pearsons(count: int, n: int) -> None:
    estimate = share_with_interval(count, n)
    exact = stats.binomtest(count, n).proportion_ci(0.95, method="exact")
    assert estimate is not None
    assert exact.low - 1e-12 <= estimate.low <= count / n <= estimate.high <= exact.high + 1e-12


def test_the_figures_that_are_said_of_it() -> None:
    assert share_with_interval(0, 0) is None
    assert share_with_interval(0, 9) == ShareEstimate(9, 0, 0.0, 0.0, pytest.approx(0.316, abs=5e-4))
    none_of = {n: share_with_interval(0, n) for n in (71, 72)}
    assert none_of[71] is not None
    assert none_of[72] is not None
    assert none_of[72].high <= 0.05 < none_of[71].high
