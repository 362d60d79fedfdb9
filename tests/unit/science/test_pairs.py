"""Shares of the same things before and after: intervals cover what they say, and say what was counted."""

import itertools

import numpy as np
import pytest

from workers.science.statistics.pairs import PairedCounts


def test_pairs_are_counted() -> None:
    """Oracle: numpy's means over the pairs themselves."""
    pairs = list(
        itertools.chain([(True, True)] * 5, [(True, False)] * 3, [(False, True)], [(False, False)] * 2)
    )
    counts = PairedCounts.of(pairs)
    before, after = np.array(pairs).mean(0)
    assert (counts.n, counts.first, counts.second, counts.both) == (11, 8, 6, 5)
    difference, ratio = counts.difference(), counts.ratio()
    assert difference is not None
    assert ratio is not None
    assert difference.mean == pytest.approx(after - before)
    assert ratio.mean == pytest.approx(after / before)
    assert difference.low < difference.mean < difference.high
    assert ratio.low < ratio.mean < ratio.high


def test_the_interval_of_a_difference_is_the_published_formula() -> None:
    """Oracle: Bonett and Price (2012), equation 3, by hand: of 40 things 9 were lost and 2 gained."""
    found = PairedCounts(n=40, first=25, second=18, both=16).difference()
    gained, lost = 3 / 42, 10 / 42
    reach = 1.959964 * np.sqrt((gained + lost - (gained - lost) ** 2) / 42)
    assert (found.low, found.high) == pytest.approx((gained - lost - reach, gained - lost + reach), abs=1e-6)


def test_the_ratio_turned_round_is_its_inverse() -> None:
    """Identity: what is kept from before to after is one over what is kept the other way."""
    there, back = PairedCounts(60, 40, 25, 22).ratio(), PairedCounts(60, 25, 40, 22).ratio()
    assert (back.mean, back.low, back.high) == pytest.approx((1 / there.mean, 1 / there.high, 1 / there.low))


@pytest.mark.parametrize("n", [1, 20, 500])
def test_an_interval_has_a_width_where_nothing_changed(n: int) -> None:
    same = PairedCounts(n, n, n, n)
    assert same.difference().low < 0 < same.difference().high
    assert same.ratio().low < 1 < same.ratio().high
    widths = [PairedCounts(more, more, more, more).ratio() for more in (n, 2 * n)]
    assert widths[0].high - widths[0].low > widths[1].high - widths[1].low


def test_without_a_base_there_is_no_ratio() -> None:
    assert PairedCounts(0, 0, 0, 0).difference() is None
    assert PairedCounts(0, 0, 0, 0).ratio() is None
    assert PairedCounts(9, 0, 3, 0).ratio() is None
    forgotten = PairedCounts(30, 30, 0, 0).ratio()
    assert (forgotten.mean, forgotten.low) == (0, 0)
    assert 0 < forgotten.high < 0.3
    assert PairedCounts(3, 3, 0, 0).difference().low >= -1


# Shares of which both hold, the first alone, the second alone.
TRUTHS = [(0.6, 0.3, 0.02), (0.1, 0.85, 0.0), (0.05, 0.5, 0.01), (0.4, 0.1, 0.1), (0.05, 0.9, 0.05)]


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("n", [30, 200])
def test_intervals_cover_the_truth(n: int, truth: tuple[float, float, float]) -> None:
    """Oracle: 2,000 seeded draws of pairs whose shares are known; 95 % are to be covered."""
    both, first_only, second_only = truth
    difference = second_only - first_only
    ratio = (both + second_only) / (both + first_only)
    shares = [*truth, max(0.0, 1 - sum(truth))]
    drawn = np.random.default_rng(n).multinomial(n, shares, size=2000)
    covered = np.zeros(2)
    for b, f, s, _ in drawn.tolist():
        counts = PairedCounts(n, b + f, b + s, b)
        for place, (found, true) in enumerate(((counts.difference(), difference), (counts.ratio(), ratio))):
            covered[place] += found.low <= true <= found.high
    assert covered / len(drawn) == pytest.approx(0.96, abs=0.03), covered / len(drawn)
