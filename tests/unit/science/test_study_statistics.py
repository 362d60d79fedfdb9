"""Studies. Oracles: a binomial tail by hand; simulated runs whose half-life is known."""

import numpy as np
import numpy.typing as npt
import pytest

from workers.science.statistics.intervals import Moments
from workers.science.studies.differences import moments_of, transitions
from workers.science.studies.forgetting import HalfLife, find_half_life, find_peak

Numbers = npt.NDArray[np.float64]

STEPS = (0, 100, 200, 300, 400, 500, 600, 800)


def test_transitions_are_counted_and_tested_as_mcnemar_does() -> None:
    first = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, np.nan, 1])
    second = np.array([1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, np.nan])
    found = transitions(first, second)
    assert found is not None
    assert (found.both, found.lost, found.gained, found.neither) == (2, 1, 6, 1)
    assert found.p_value == pytest.approx(2 * (1 + 7) / 2**7)  # a tail of the binomial, by hand
    same = transitions(first, first)
    assert same is not None
    assert same.p_value == 1
    assert transitions(first[-2:-1], second[-2:-1]) is None


def test_moments_at_once_are_those_one_by_one() -> None:
    numbers = np.random.default_rng(0).exponential(size=50)
    one_by_one = Moments.of(numbers.tolist())
    at_once = moments_of(numbers)
    assert (at_once.n, at_once.mean) == (one_by_one.n, pytest.approx(one_by_one.mean, rel=1e-12))
    assert (at_once.squares, at_once.cubes) == pytest.approx((one_by_one.squares, one_by_one.cubes), rel=1e-9)
    assert moments_of(numbers[:0]) == Moments()


def run_of(random: np.random.Generator, texts: int, half_life: float, excess: float) -> Numbers:
    """NL [texts, checkpoints] that rises up to the third checkpoint and then loses its excess by half-lives.

    What the run learns of language moves all texts, and each text is easier or harder than others.
    """
    since = np.array(STEPS) - STEPS[2]
    decay = np.where(since < 0, 1 + since / 250, 0.5 ** (np.maximum(since, 0) / half_life))
    common = -4 + np.array(STEPS) / 1000
    own = random.normal(0, 0.5, (texts, 1))
    return common + own + excess * decay + random.normal(0, 0.15, (texts, len(STEPS)))


def truth(half_life: float) -> float:
    """Where a line through the decay at the checkpoints crosses a half."""
    since = np.array(STEPS[2:]) - STEPS[2]
    return float(np.interp(-0.5, -(0.5 ** (since / half_life)), since))


@pytest.mark.parametrize("half_life", [60.0, 150.0, 350.0])
def test_the_half_life_of_a_simulated_run_is_found_and_covered(half_life: float) -> None:
    random = np.random.default_rng(int(half_life))
    covered, unclear, found = 0, 0, []
    for _ in range(300):
        texts, baseline = run_of(random, 12, half_life, 1.5), run_of(random, 60, half_life, 0.0)
        half = find_half_life(texts, baseline, STEPS, 2)
        if half is None:  # the peak of twelve texts is not always clear
            unclear += 1
            continue
        low = np.inf if half.low is None else half.low
        high = np.inf if half.high is None else half.high
        covered += low <= truth(half_life) <= high
        found.append(np.inf if half.steps is None else half.steps)
    assert np.median(found) == pytest.approx(truth(half_life), rel=0.1)
    assert unclear <= 3
    assert 0.93 <= covered / (300 - unclear) <= 0.98


def test_the_peak_is_found_above_what_was_never_inserted() -> None:
    random = np.random.default_rng(1)
    texts, baseline = run_of(random, 30, 100, 2.0), run_of(random, 30, 100, 0.0)
    peak = find_peak(texts, baseline)
    assert peak is not None
    assert peak.place == 2
    assert peak.excess.low is not None
    assert peak.excess.high is not None
    assert peak.excess.low < 2.0 < peak.excess.high
    assert find_peak(texts, baseline[:0]) is None


def test_what_is_not_lost_within_the_run_has_no_half_life() -> None:
    random = np.random.default_rng(2)
    baseline = run_of(random, 60, 100, 0.0)
    lasting = run_of(random, 60, 1e9, 2.0)
    assert find_half_life(lasting, baseline, STEPS, 2) == HalfLife(None, None, None)
    assert find_half_life(lasting, baseline, STEPS, len(STEPS) - 1) is None
    assert find_half_life(run_of(random, 60, 100, 0.0), baseline, STEPS, 2) is None
    exact = np.array([[0.0, 4.0, 3.0, 1.0]] * 6) + np.arange(6)[:, None] * 1e-6
    half = find_half_life(exact, exact * 1e-6, (0, 10, 20, 30), 1)
    assert half is not None
    assert half.steps == pytest.approx(15.0, abs=1e-4)
