"""Means and differences. Oracles: simulated samples whose mean is known; Student's and Welch's intervals."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from workers.science.statistics.intervals import (
    ExactSum,
    MeanEstimate,
    Moments,
    gain_between,
    gain_within,
    mean_with_interval,
    weighted_mean,
)

Numbers = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Numbers]


def log_normal(sigma: float, random: np.random.Generator, size: tuple[int, int]) -> Numbers:
    """Less its mean, and with its long tail below, as NL has it."""
    return math.exp(sigma**2 / 2) - random.lognormal(0, sigma, size)


def exponential(random: np.random.Generator, size: tuple[int, int]) -> Numbers:
    return 1 - random.exponential(size=size)


def normal(random: np.random.Generator, size: tuple[int, int]) -> Numbers:
    return random.normal(size=size)


# Each has the mean 0.
DRAWS: dict[str, Draw] = {
    "normal": normal,
    "uniform": lambda random, size: random.uniform(-1, 1, size),
    "exponential": exponential,
    "log-normal 0.5": partial(log_normal, 0.5),
    "log-normal 0.75": partial(log_normal, 0.75),
}


def samples(draw: Draw, n: int, *, trials: int, seed: int = 0, scale: float = 1.0) -> Numbers:
    return scale * draw(np.random.default_rng([seed, n]), (trials, n))


def moments_of(rows: Numbers) -> list[Moments]:
    """The moments of each row, from numpy."""
    means = rows.mean(1)
    deviations = rows - means[:, None]
    squares, cubes = (deviations**2).sum(1), (deviations**3).sum(1)
    columns = (means.tolist(), squares.tolist(), cubes.tolist())
    return [Moments(rows.shape[1], *numbers) for numbers in zip(*columns, strict=True)]


def coverage(estimates: list[MeanEstimate | None], truth: float = 0.0) -> float:
    covered = 0
    for estimate in estimates:
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= truth <= estimate.high
    return covered / len(estimates)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("n", "trials"), [(6, 8000), (9, 8000), (30, 4000), (300, 2000)])
def test_the_interval_of_a_mean_covers_it_in_95_of_100_samples(draw: str, n: int, trials: int) -> None:
    found = coverage(
        [mean_with_interval(each) for each in moments_of(samples(DRAWS[draw], n, trials=trials))]
    )
    assert 0.93 <= found <= 0.98, (draw, n, found)


def test_beyond_that_skewness_six_numbers_cover_less_as_the_docstring_says() -> None:
    rows = samples(partial(log_normal, 1.0), 6, trials=8000)
    assert 0.90 <= coverage([mean_with_interval(each) for each in moments_of(rows)]) < 0.93
    student = stats.t.interval(0.95, 5, loc=rows.mean(1), scale=stats.sem(rows, axis=1))
    assert np.mean((student[0] <= 0) & (student[1] >= 0)) < 0.85


TWO_SAMPLES = [
    ("normal", 6, 1.0, "normal", 6, 1.0),
    ("normal", 6, 0.2, "normal", 120, 1.0),
    ("exponential", 6, 0.2, "normal", 120, 1.0),
    ("exponential", 6, 1.0, "normal", 120, 0.2),
    ("log-normal 0.5", 6, 0.1, "log-normal 0.5", 120, 1.0),
    ("log-normal 0.5", 6, 1.0, "log-normal 0.5", 120, 1.0),
    ("exponential", 30, 0.2, "exponential", 30, 1.0),
    ("exponential", 30, 1.0, "normal", 300, 1.0),
    ("log-normal 0.75", 30, 1.0, "log-normal 0.75", 30, 0.1),
    ("normal", 300, 1.0, "normal", 300, 0.2),
    ("exponential", 300, 1.0, "log-normal 0.75", 300, 1.0),
]


@pytest.mark.parametrize(("high", "n_high", "high_scale", "low", "n_low", "low_scale"), TWO_SAMPLES)
def test_the_interval_of_a_difference_covers_it_in_95_of_100_samples(
    high: str, n_high: int, high_scale: float, low: str, n_low: int, low_scale: float
) -> None:
    trials = 4000 if n_high < 300 else 2000
    higher = moments_of(samples(DRAWS[high], n_high, trials=trials, seed=1, scale=high_scale))
    lower = moments_of(samples(DRAWS[low], n_low, trials=trials, seed=2, scale=low_scale))
    found = coverage([gain_between(*pair) for pair in zip(lower, higher, strict=True)])
    assert 0.93 <= found <= 0.98, found


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_a_gain_within_strata_covers_what_is_added_within_each(draw: str) -> None:
    """Most values of the higher level are of the higher stratum: plain means differ by more than 5."""
    strata = [
        [moments_of(samples(DRAWS[draw], n, trials=2000, seed=n) + shift) for n in sizes]
        for *sizes, shift in [(30, 8, 0.0), (10, 24, 10.0)]
    ]
    pairs = [list(zip(*levels, strict=True)) for levels in strata]
    found = coverage([gain_within(trial) for trial in zip(*pairs, strict=True)])
    assert 0.93 <= found <= 0.98, found


@pytest.mark.parametrize("draw", ["normal", "exponential", "log-normal 0.5"])
@pytest.mark.parametrize("spread", [0.0, 0.5], ids=["like lengths", "unlike lengths"])
@pytest.mark.parametrize(("n", "trials"), [(6, 6000), (30, 4000), (300, 2000)])
def test_a_mean_by_weights_covers_the_ratio_of_the_totals(
    draw: str, spread: float, n: int, trials: int
) -> None:
    """Weights are lengths of texts; the change per token varies from text to text."""
    lengths = np.ceil(100 * np.random.default_rng(n).lognormal(0, spread, (trials, n)))
    changes = samples(DRAWS[draw], n, trials=trials)
    found = coverage([weighted_mean(*pair) for pair in zip(changes, lengths, strict=True)])
    assert 0.93 <= found <= 0.98, found


def test_a_mean_by_weights_is_the_ratio_of_totals_and_with_equal_weights_the_mean() -> None:
    random = np.random.default_rng(3)
    changes, lengths = random.exponential(size=9), random.integers(1, 100, size=9).astype(float)
    estimate = weighted_mean(changes, lengths)
    assert estimate is not None
    assert estimate.mean == pytest.approx((changes * lengths).sum() / lengths.sum(), rel=1e-14)
    equal, plain = weighted_mean(changes, [7.0] * 9), mean_with_interval(Moments.of(changes))
    assert equal is not None
    assert plain is not None
    assert (equal.n, equal.mean, equal.low, equal.high) == pytest.approx(
        (plain.n, plain.mean, plain.low, plain.high), rel=1e-12
    )
    assert weighted_mean([], []) is None
    assert weighted_mean([0.5], [3.0]) == MeanEstimate(1, 0.5, None, None)
    assert weighted_mean([0.1] * 3, [1.0, 2.0, 4.0]) == MeanEstimate(3, 0.1, None, None)


def test_without_skewness_the_intervals_are_students_and_welchs() -> None:
    small, large = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.array([4.0, 5.0, 5.0, 6.0])
    estimate = mean_with_interval(Moments.of(small))
    low, high = stats.t.interval(0.95, 4, loc=0, scale=stats.sem(small))
    assert estimate is not None
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((0, low, high), rel=1e-12)
    gain = gain_between(Moments.of(small), Moments.of(large))
    welch = stats.ttest_ind(large, small, equal_var=False).confidence_interval()
    assert gain is not None
    assert (gain.n, gain.mean, gain.low, gain.high) == pytest.approx((4, 5, welch.low, welch.high), rel=1e-12)


def test_a_gain_within_strata_is_that_of_each_by_its_share_of_the_higher_values() -> None:
    """Oracle: Welch and Satterthwaite's formula, of four symmetric samples; it has no skewness to mend."""
    samples_of = [([-1.0, 0.0, 1.0], [3.0, 5.0, 7.0, 9.0]), ([10.0, 14.0], [11.0, 12.0])]
    shares = np.repeat([4 / 6, 2 / 6], 2)
    values = [np.array(level) for stratum in samples_of for level in stratum]
    parts = shares**2 * [each.var(ddof=1) / len(each) for each in values]
    freedom = parts.sum() ** 2 / (parts**2 / [len(each) - 1 for each in values]).sum()
    low, high = stats.t.interval(0.95, freedom, loc=4 - 0.5 / 3, scale=np.sqrt(parts.sum()))
    gain = gain_within([(Moments.of(lower), Moments.of(higher)) for lower, higher in samples_of])
    assert gain is not None
    assert (gain.n, gain.mean, gain.low, gain.high) == pytest.approx((5, 4 - 0.5 / 3, low, high), rel=1e-12)
    assert gain_within([]) is None


def test_of_skewed_numbers_the_interval_reaches_further_to_their_tail() -> None:
    """Oracle: Hall's transformation, applied to the ends of the interval, gives Student's quantiles."""
    values = np.array([0.1, 0.2, 0.2, 0.3, 0.5, 0.6, 0.9, 3.0])
    n = len(values)
    estimate = mean_with_interval(Moments.of(values))
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert estimate is not None
    assert estimate.low == pytest.approx(low, rel=1e-12)
    assert estimate.high is not None
    assert estimate.high > high + 1
    skewness = stats.skew(values) * (1 + 6 / n) / math.sqrt(n)
    reached = (values.mean() - estimate.high) / stats.sem(values)
    transformed = reached + skewness * reached**2 / 3 + skewness**2 * reached**3 / 27 + skewness / 6
    assert transformed == pytest.approx(-stats.t.ppf(0.975, n - 1), rel=1e-9)


NUMBERS = st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1, max_size=50)


@given(NUMBERS)
def test_moments_and_sums_of_one_value_after_another_are_those_of_all(values: list[float]) -> None:
    moments = Moments.of(values)
    exact = np.asarray(values, dtype=np.longdouble)
    deviations = exact - exact.mean()
    scale = float(np.abs(deviations).max())
    assert moments.n == len(values)
    assert moments.mean == pytest.approx(
        float(exact.mean()), rel=1e-12, abs=1e-12 * float(np.abs(exact).max())
    )
    noise = 1e-9 * max(scale, 1e-3 * float(np.abs(exact).max()))
    assert moments.squares == pytest.approx(float((deviations**2).sum()), rel=1e-9, abs=noise**2)
    assert moments.cubes == pytest.approx(
        float((deviations**3).sum()), rel=1e-9, abs=1e-9 * scale**3 + noise**3
    )
    assert Moments.of(values) == moments
    total = ExactSum()
    for value in reversed(values):
        total.add(value)
    assert total.value == math.fsum(values)


def test_an_exact_sum_loses_nothing() -> None:
    total = ExactSum()
    for value in [1e100, 1.0, -1e100, 1e-30, -1e-30] * 3:
        total.add(value)
    assert total.value == 3.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([2.5], MeanEstimate(1, 2.5, None, None)),
        ([0.1, 0.1, 0.1], MeanEstimate(3, 0.1, None, None)),
        ([0.1] * 10_000, MeanEstimate(10_000, 0.1, None, None)),
    ],
)
def test_degenerate_samples(values: list[float], expected: MeanEstimate | None) -> None:
    assert mean_with_interval(Moments.of(values)) == expected
    if expected is not None:
        other = gain_between(Moments(), Moments.of(values))
        assert other is None
        same = gain_between(Moments.of(values), Moments.of(values))
        assert same is not None
        assert (same.n, same.mean) == (expected.n, 0.0)
        assert (same.low, same.high) == (None, None)
        other = Moments.of([0.0, 1.0])
        for gain in (gain_between(Moments.of(values), other), gain_between(other, Moments.of(values))):
            assert gain is not None
            assert (gain.low, gain.high) == (None, None)


@pytest.mark.parametrize("n", [6, 12, 20])
def test_an_interval_that_is_given_is_seldom_of_numbers_whose_other_kind_is_missing(n: int) -> None:
    """One number in ten is 0.2, the others are 1: the mean is 0.92."""
    rows = samples(lambda random, size: np.where(random.random(size) < 0.9, 1.0, 0.2), n, trials=4000)
    for found in (
        [mean_with_interval(Moments.of(row)) for row in rows],
        [weighted_mean(row, np.arange(1, n + 1)) for row in rows],
    ):
        given = [each for each in found if each is not None and each.low is not None]
        assert len(given) == (rows != rows[:, :1]).any(1).sum() < len(rows)
        assert coverage(given, 0.92) > 0.95, n


def test_numbers_that_differ_by_rounding_alone_are_equal() -> None:
    third = 0.1 + 0.2
    for estimate in (
        mean_with_interval(Moments.of([0.3, third, 0.3])),
        weighted_mean([0.3, third, 0.3], [4.0, 3.0, 2.0]),
    ):
        assert estimate is not None
        assert estimate.mean == pytest.approx(0.3)
        assert (estimate.low, estimate.high) == (None, None)


def test_numbers_that_all_but_vanish_have_an_interval_too() -> None:
    estimate = mean_with_interval(Moments.of([0.0, 1e-130, 0.0]))
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low <= estimate.mean <= estimate.high
