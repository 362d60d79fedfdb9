"""Dose-response. Oracles: scikit-learn's isotonic regression; simulated texts whose count is known."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from workers.science.statistics.dose_response import (
    MOST_TEXTS,
    DoseResponse,
    Sample,
    fit_dose_response,
    prediction_bounds,
)

Numbers = npt.NDArray[np.float64]

LADDER = (0, 1, 4, 16, 64, 256)


def draw(random: np.random.Generator, shape: str, size: tuple[int, ...] | int) -> Numbers:
    """Of mean 0, and as NL with the long tail below."""
    if shape == "normal":
        return random.normal(size=size)
    if shape == "exponential":
        return 1 - random.exponential(size=size)
    sigma = 0.5
    return math.exp(sigma**2 / 2) - random.lognormal(0, sigma, size)


def fit_or_none(samples: dict[int, Numbers]) -> DoseResponse | None:
    return fit_dose_response({level: Sample.of(nl) for level, nl in samples.items()})


def fitted(samples: dict[int, Numbers]) -> DoseResponse:
    fit = fit_or_none(samples)
    assert fit is not None
    return fit


def rising(
    random: np.random.Generator, texts: int, scatter: float, shape: str = "normal"
) -> dict[int, Numbers]:
    return {level: -4 + 0.6 * np.log1p(level) + scatter * draw(random, shape, texts) for level in LADDER}


def test_the_fit_is_that_of_a_weighted_isotonic_regression() -> None:
    random = np.random.default_rng(0)
    samples = {
        level: random.normal(mean, 0.3, n)
        for level, mean, n in zip(
            LADDER, (-3.0, -3.2, -2.5, -1.0, -1.1, -0.2), (60, 30, 24, 12, 9, 6), strict=True
        )
    }
    oracle = IsotonicRegression().fit_transform(
        np.concatenate([np.full(len(nl), level) for level, nl in samples.items()]),
        np.concatenate(list(samples.values())),
    )
    found = fitted(samples)
    assert found.fitted[np.searchsorted(found.levels, 0)] == found.fitted[1]  # two were out of order
    expected = dict(
        zip(np.concatenate([np.full(len(nl), level) for level, nl in samples.items()]), oracle, strict=True)
    )
    assert found.fitted == pytest.approx([expected[level] for level in LADDER])


@pytest.mark.parametrize("shape", ["normal", "exponential", "log-normal"])
@pytest.mark.parametrize("n", [6, 12, 38, 39, 60, 200])
def test_bounds_hold_one_more_number_in_95_of_100_cases(shape: str, n: int) -> None:
    random = np.random.default_rng([n, len(shape)])
    samples, more = draw(random, shape, (4000, n)), draw(random, shape, 4000)
    bounds = np.array([prediction_bounds(sample) for sample in samples])
    assert 0.92 < np.mean((bounds[:, 0] <= more) & (more <= bounds[:, 1])) < 0.98


def test_of_39_numbers_the_bounds_are_the_least_and_the_most_and_of_79_the_second_ones() -> None:
    numbers = np.random.default_rng(0).permutation(79).astype(float)
    assert prediction_bounds(numbers) == (1.0, 77.0)
    fewer = np.sort(numbers)[:39]
    assert prediction_bounds(fewer) == (0.0, 38.0)
    six = fewer[:6]
    assert prediction_bounds(six) == pytest.approx(
        stats.t.interval(0.96, 5, loc=six.mean(), scale=six.std(ddof=1) * math.sqrt(7 / 6))
    )


@pytest.mark.parametrize("shape", ["normal", "exponential"])
@pytest.mark.parametrize("texts", [9, 60])
def test_intervals_cover_the_true_count_and_most_texts_are_told_within_a_step(shape: str, texts: int) -> None:
    random = np.random.default_rng(texts)
    covered: dict[int, list[float]] = {level: [] for level in LADDER}
    near: list[float] = []
    for _ in range(150):
        fit = fitted(rising(random, texts, 0.4, shape))
        for place, (level, nl) in enumerate(rising(random, 20, 0.4, shape).items()):
            found = fit.equivalents(nl)
            assert np.all((found.low <= found.duplicates) & (found.duplicates <= found.high))
            covered[level].append(np.mean((found.low <= level) & (level <= found.high)))
            if level >= 16:
                neighbours = LADDER[place - 1], LADDER[min(place + 1, len(LADDER) - 1)]
                near.append(
                    np.mean((neighbours[0] <= found.duplicates) & (found.duplicates <= neighbours[1]))
                )
    shares = {level: float(np.mean(each)) for level, each in covered.items()}
    # The lowest level holds what lies below it too, the highest what lies above.
    assert all(0.93 <= share <= 0.98 for level, share in shares.items() if level not in {0, 256}), shares
    assert min(shares[0], shares[256]) >= 0.93, shares
    assert np.mean(near) >= 0.8


def test_without_scatter_a_text_is_worth_exactly_what_it_was_given() -> None:
    fit = fitted(rising(np.random.default_rng(0), 40, 1e-9))
    for level in (2, 9, *LADDER):
        nl = np.array([-4 + 0.6 * math.log1p(level)])
        assert fit.equivalents(nl).duplicates == pytest.approx([level], rel=1e-6, abs=1e-6)
    beyond = fit.equivalents(np.array([-9.0, 0.0]))
    assert beyond.duplicates.tolist() == beyond.low.tolist() == beyond.high.tolist() == [0, 256]


def test_levels_that_are_alike_are_worth_the_middle_of_them() -> None:
    scatter = np.array([-0.3, -0.2, -0.1, 0.1, 0.2, 0.3])
    fit = fitted({0: -2 + scatter, 3: -2 + scatter, 255: -1 + scatter})
    found = fit.equivalents(np.array([-2.0]))
    assert found.duplicates == pytest.approx([1.0])  # 1 + 1 is the geometric mean of 1 and 4
    assert (found.low[0], found.high[0] > 3) == (0, True)


def test_levels_that_nl_does_not_tell_apart_are_all_possible() -> None:
    """By definition: the lowest and the highest level of which a text is not excluded."""
    same = fitted({level: np.full(8, -2.0) for level in (0, 4, 64, 256)})
    for nl in (-2.0, -9.0, 0.0):
        found = same.equivalents(np.array([nl]))
        assert found.duplicates[0] == pytest.approx(np.sqrt(257) - 1, abs=1e-5)
        assert (found.low[0], found.high[0]) == (0, 256)
    upper = fitted({level: np.full(8, nl) for level, nl in ((0, -4.0), (1, -3.0), (4, -3.0), (16, -3.0))})
    found = upper.equivalents(np.array([-4.0, -3.0]))
    assert found.low.tolist() == [0, 1]
    assert found.high.tolist() == [0, 16]


def test_there_is_no_fit_without_two_levels_of_six_texts() -> None:
    random = np.random.default_rng(0)
    assert fit_or_none({}) is None
    assert fit_or_none({0: random.normal(size=100)}) is None
    assert fit_or_none({0: random.normal(size=6), 1: random.normal(size=5)}) is None
    found = fitted({0: random.normal(size=6), 1: random.normal(size=5), 4: random.normal(size=6) + 9})
    assert found.levels.tolist() == [0, 4]


def test_a_sample_of_very_many_numbers_keeps_evenly_spaced_ones_and_the_moments_of_all() -> None:
    sample = Sample.of(float(number) for number in range(11_111))
    assert sample.scatter.tolist() == [float(number) for number in range(0, 11_111, 32)]
    assert len(sample.scatter) <= MOST_TEXTS
    assert (sample.moments.n, sample.moments.mean) == (11_111, pytest.approx(5555))
