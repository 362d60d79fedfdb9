"""The same texts twice. Oracles: the published formula by hand, single areas, simulations of known truth."""

import numpy as np
import pytest
from scipy import stats

from workers.science.statistics import paired
from workers.science.statistics.intervals import Moments, mean_with_interval
from workers.science.statistics.paired import PairedMeans, PairedShares, auc_change, share_change
from workers.science.statistics.ranking import roc_auc
from workers.science.statistics.shares import ShareEstimate, share_with_interval


def pairs_of(both: int, lost: int, gained: int, neither: int) -> list[tuple[bool, bool]]:
    return (
        [(True, True)] * both + [(True, False)] * lost + [(False, True)] * gained + [(False, False)] * neither
    )


def wilson(count: int, n: int) -> ShareEstimate:
    found = stats.binomtest(count, n).proportion_ci(method="wilson")
    return ShareEstimate(n, count, count / n, found.low, found.high)


def test_with_wilsons_intervals_it_is_the_published_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Method 10 by its formula, written out by hand for 20 both, 12 gained, 2 lost, 16 neither."""
    monkeypatch.setattr(paired, "share_with_interval", wilson)
    found = share_change(pairs_of(20, 2, 12, 16))
    first, second = wilson(22, 50), wilson(32, 50)
    phi = (20 * 16 - 2 * 12) / np.sqrt(22 * 28 * 32 * 18)
    down, up = (
        (second.share - second.low, first.high - first.share),
        (
            second.high - second.share,
            first.share - first.low,
        ),
    )
    low = 0.2 - np.sqrt(down[0] ** 2 - 2 * phi * down[0] * down[1] + down[1] ** 2)
    high = 0.2 + np.sqrt(up[0] ** 2 - 2 * phi * up[0] * up[1] + up[1] ** 2)
    assert found is not None
    assert (found.n, found.lost, found.gained) == (50, 2, 12)
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, low, high))
    # McNemar's exact test says the same: more were gained than lost.
    assert found.low > 0
    assert stats.binomtest(2, 14).pvalue < 0.05


@pytest.mark.parametrize("n", [12, 40, 100])
@pytest.mark.parametrize(
    ("before", "after", "together"),
    [(1.0, 0.0, 0), (1.0, 0.1, 0), (0.9, 0.3, 0.5), (0.5, 0.5, 0.9), (0.1, 0.05, 0)],
)
def test_the_interval_of_a_change_of_shares_covers_it(
    n: int, before: float, after: float, together: float
) -> None:
    """A text changes its mind with probability 1 - `together`, else both sides draw the same number."""
    random = np.random.default_rng(7)
    covered, trials = 0, 400
    for _ in range(trials):
        draw = random.random(n)
        again = np.where(random.random(n) < together, draw, random.random(n))
        found = share_change(zip((draw < before).tolist(), (again < after).tolist(), strict=True))
        assert found is not None
        covered += found.low - 1e-12 <= after - before <= found.high + 1e-12
    assert covered / trials >= 0.93


def test_pairs_that_agree_make_a_narrower_interval_than_those_that_do_not() -> None:
    narrow, wide = share_change(pairs_of(25, 0, 5, 20)), share_change(pairs_of(12, 13, 18, 7))
    assert narrow is not None
    assert wide is not None
    assert (narrow.difference, wide.difference) == (0.1, 0.1)
    assert narrow.high - narrow.low < 0.7 * (wide.high - wide.low)


def test_what_is_unknown_on_one_side_is_left_out() -> None:
    assert share_change([(None, True), (False, None)]) is None
    found = share_change([(None, True), (True, False), (True, True)])
    assert found is not None
    assert (found.n, found.lost, found.difference) == (2, 1, -0.5)
    shares = PairedShares()
    assert shares.result() == {"before": None, "after": None, "change": None}
    shares.add(before=True, after=False)
    result = shares.result()
    assert (result["before"]["share"], result["after"]["share"]) == (1.0, 0.0)
    assert result["change"]["low"] == -1.0 < result["change"]["high"] < 1.0


def test_means_are_of_texts_that_have_both_and_their_change_is_paired() -> None:
    means = PairedMeans(within=(0.0, 1.0))
    for before, after in ((0.9, 0.1), (0.8, 0.1), (0.1, None), (0.7, 0.0)):
        means.add(before, after)
    found = means.result()
    assert found["before"]["mean"] == pytest.approx(0.8)
    assert found["after"]["mean"] == pytest.approx(0.2 / 3)
    changes = [0.1 - 0.9, 0.1 - 0.8, 0.0 - 0.7]
    expected = mean_with_interval(Moments.of(changes))
    assert expected is not None
    assert found["change"] == {
        "n": 3,
        "mean": expected.mean,
        "low": max(-1.0, expected.low or 0),
        "high": min(1.0, expected.high or 0),
    }
    assert found["after"]["low"] == 0.0
    assert PairedMeans().result() == {"before": None, "after": None, "change": None}


def test_the_change_of_an_area_is_the_difference_of_the_areas() -> None:
    random = np.random.default_rng(3)
    members, others = random.normal(2, 1, (2, 40)), random.normal(0, 1, (2, 70))
    found = auc_change((members[0], members[1] - 2), (others[0], others[1]))
    before, after = roc_auc(members[0], others[0]), roc_auc(members[1] - 2, others[1])
    assert found is not None
    assert before is not None
    assert after is not None
    assert found.mean == pytest.approx(after.auc - before.auc, abs=1e-12)
    assert (found.n, found.low is not None and found.low < found.mean) == (40, True)
    assert auc_change(([], []), ([1.0], [1.0])) is None
    same = auc_change((members[0], members[0]), (others[0], others[0]))
    assert same is not None
    assert (same.mean, same.low) == (0.0, None)


@pytest.mark.parametrize("together", [0.0, 0.9])
def test_the_interval_of_a_change_of_areas_covers_it(together: float) -> None:
    """Normal scores, members d above: an area of Phi(d / sqrt 2). What texts share is in both scores."""
    random = np.random.default_rng(11)
    truth = stats.norm.cdf(0.3 / np.sqrt(2)) - stats.norm.cdf(1.2 / np.sqrt(2))
    covered, widths, trials = 0, [], 400
    for _ in range(trials):
        own = [random.normal(0, 1, (3, size)) for size in (30, 60)]
        before, after = (
            [np.sqrt(together) * side[0] + np.sqrt(1 - together) * side[when] for side in own]
            for when in (1, 2)
        )
        found = auc_change((before[0] + 1.2, after[0] + 0.3), (before[1], after[1]))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
        widths.append(found.high - found.low)
    assert 0.92 <= covered / trials <= 0.99
    # Alike scores of the same texts show a change more clearly: this is what pairing is for.
    assert (np.mean(widths) < 0.2) == (together > 0)


def test_the_property_of_none_or_all_has_the_interval_of_one_share() -> None:
    found, alone = share_change([(False, False)] * 50), share_with_interval(0, 50)
    assert found is not None
    assert alone is not None
    assert found.low < 0 < found.high
    assert found.high == pytest.approx(alone.high)
