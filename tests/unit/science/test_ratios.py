"""What is kept of a share: intervals cover what they say, and say what was counted."""

import itertools

import numpy as np
import pytest

from workers.science.statistics.ratios import PairedCounts


def test_pairs_are_counted() -> None:
    """Oracle: numpy's means over the pairs themselves."""
    pairs = list(
        itertools.chain([(True, True)] * 5, [(True, False)] * 3, [(False, True)], [(False, False)] * 2)
    )
    counts = PairedCounts.of(pairs)
    before, after = np.array(pairs).mean(0)
    assert (counts.n, counts.first, counts.second, counts.both) == (11, 8, 6, 5)
    ratio = counts.ratio()
    assert ratio is not None
    assert ratio.mean == pytest.approx(after / before)
    assert ratio.low < ratio.mean < ratio.high


def test_the_ratio_turned_round_is_its_inverse() -> None:
    """Identity: what is kept from before to after is one over what is kept the other way."""
    there, back = PairedCounts(60, 40, 25, 22).ratio(), PairedCounts(60, 25, 40, 22).ratio()
    assert (back.mean, back.low, back.high) == pytest.approx((1 / there.mean, 1 / there.high, 1 / there.low))


@pytest.mark.parametrize("n", [1, 20, 500])
def test_an_interval_has_a_width_where_nothing_changed(n: int) -> None:
    same = PairedCounts(n, n, n, n)
    assert same.ratio().low < 1 < same.ratio().high
    widths = [PairedCounts(more, more, more, more).ratio() for more in (n, 2 * n)]
    assert widths[0].high - widths[0].low > widths[1].high - widths[1].low


def test_without_a_base_there_is_no_ratio() -> None:
    assert PairedCounts(0, 0, 0, 0).ratio() is None
    assert PairedCounts(9, 0, 3, 0).ratio() is None
    forgotten = PairedCounts(30, 30, 0, 0).ratio()
    assert (forgotten.mean, forgotten.low) == (0, 0)
    assert 0 < forgotten.high < 0.3


# Shares of which both hold, the first alone, the second alone.
TRUTHS = [(0.6, 0.3, 0.02), (0.1, 0.85, 0.0), (0.05, 0.5, 0.01), (0.4, 0.1, 0.1), (0.05, 0.9, 0.05)]


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("n", [30, 200])
def test_intervals_cover_the_truth(n: int, truth: tuple[float, float, float]) -> None:
    """Oracle: 2,000 seeded draws of pairs whose shares are known; 95 % are to be covered."""
    both, first_only, second_only = truth
    ratio = (both + second_only) / (both + first_only)
    shares = [*truth, max(0.0, 1 - sum(truth))]
    drawn = np.random.default_rng(n).multinomial(n, shares, size=2000)
    covered = 0
    for b, f, s, _ in drawn.tolist():
        found = PairedCounts(n, b + f, b + s, b).ratio()
        covered += found.low <= ratio <= found.high
    assert covered / len(drawn) == pytest.approx(0.96, abs=0.03), covered / len(drawn)
