import math

import numpy as np
import pytest
from scipy import stats

from workers.science import statistics
from workers.science.statistics import Estimate, gain_between, mean_with_interval

RANDOM = np.random.default_rng(7)


def test_interval_of_a_mean_agrees_with_students_t():
    values = RANDOM.normal(3.0, 2.0, size=400)
    estimate = mean_with_interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))
    assert estimate.mean == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.05)


def test_interval_covers_the_true_mean_in_about_95_of_100_samples():
    estimates = [mean_with_interval(RANDOM.exponential(1.0, size=60), seed=seed) for seed in range(200)]
    covered = sum(estimate.low <= 1.0 <= estimate.high for estimate in estimates)
    # Binomial(200, 0.95) gives 175 to 199 with probability above 0.999; skew costs the bootstrap a little.
    assert 175 <= covered <= 199


def test_the_same_seed_gives_the_same_interval():
    values = RANDOM.normal(size=50)
    assert mean_with_interval(values, seed=1) == mean_with_interval(values, seed=1)
    assert mean_with_interval(values, seed=1) != mean_with_interval(values, seed=2)


def test_a_large_sample_has_the_interval_that_the_bootstrap_would_give(monkeypatch):
    values = RANDOM.exponential(1.0, size=statistics.LARGE_SAMPLE)
    large = mean_with_interval(values)
    monkeypatch.setattr(statistics, "LARGE_SAMPLE", math.inf)
    drawn = mean_with_interval(values)
    assert large != drawn
    assert (large.low, large.high) == pytest.approx((drawn.low, drawn.high), abs=0.003)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Estimate(0, None, None, None)),
        ([2.5], Estimate(1, 2.5, None, None)),
        ([2.0, 2.0, 2.0], Estimate(3, 2.0, 2.0, 2.0)),
        ([2.0] * statistics.LARGE_SAMPLE, Estimate(statistics.LARGE_SAMPLE, 2.0, 2.0, 2.0)),
    ],
)
def test_degenerate_samples(values, expected):
    assert mean_with_interval(values) == expected


def test_gain_of_independent_samples_agrees_with_welch():
    low, high = RANDOM.normal(-4.0, 1.0, size=300), RANDOM.normal(-1.0, 0.3, size=120)
    gain = gain_between(low, high)
    welch = stats.ttest_ind(high, low, equal_var=False).confidence_interval()
    assert gain.mean == pytest.approx(high.mean() - low.mean())
    assert gain.n == 120
    assert (gain.low, gain.high) == pytest.approx((welch.low, welch.high), abs=0.03)
