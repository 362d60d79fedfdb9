"""AUC and TPR at a low FPR. Oracles: scikit-learn; simulations whose AUC is known."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from workers.science.statistics.ranking import roc_auc, tpr_at_fpr


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(8)


@pytest.mark.parametrize("decimals", [8, 0], ids=["all differ", "many ties"])
def test_auc_agrees_with_scikit_learn(random, decimals):
    members, others = random.normal(1, 2, 40).round(decimals), random.normal(0, 1, 90).round(decimals)
    labels = [1] * len(members) + [0] * len(others)
    estimate = roc_auc(members, others)
    assert estimate.auc == pytest.approx(roc_auc_score(labels, [*members, *others]), abs=1e-12)
    assert 0 < estimate.low < estimate.auc < estimate.high < 1
    assert (estimate.n_members, estimate.n_others) == (40, 90)


@pytest.mark.parametrize("decimals", [8, 0], ids=["all differ", "many ties"])
@pytest.mark.parametrize("fpr", [0.01, 0.05, 0.3])
def test_tpr_is_the_highest_at_an_allowed_rate_on_scikit_learns_curve(random, decimals, fpr):
    members, others = random.normal(1, 2, 70).round(decimals), random.normal(0, 1, 200).round(decimals)
    rates, found, _ = roc_curve([1] * 70 + [0] * 200, [*members, *others], drop_intermediate=False)
    estimate = tpr_at_fpr(members, others, fpr)
    assert estimate.tpr.share == pytest.approx(max(found[rates <= fpr]), abs=1e-12)
    assert estimate.measured_fpr.share <= fpr
    assert np.mean(members > estimate.threshold) == estimate.tpr.share


def test_a_rate_that_the_others_are_too_few_for_is_not_measured():
    estimate = tpr_at_fpr([1.0, 2.0], np.arange(99.0), 0.01)
    assert (estimate.others_needed, estimate.tpr, estimate.threshold) == (100, None, None)
    assert tpr_at_fpr([1.0, 200.0], np.arange(100.0), 0.01).tpr.share == 0.5
    assert tpr_at_fpr([], np.arange(100.0), 0.01).tpr is None


def test_a_perfect_ranking_of_few_is_no_proof_of_a_perfect_one():
    few, many = (roc_auc(np.arange(n) + 1e6, np.arange(100.0)) for n in (6, 300))
    assert few.auc == few.high == many.auc == 1
    assert few.low < 0.75  # of six members that are all found, a share of 0.54 may be, says Blaker
    assert 0.96 < many.low < 1
    reversed_few = roc_auc(np.arange(6.0) - 1e6, np.arange(100.0))
    assert (reversed_few.low, reversed_few.high) == pytest.approx((0, 1 - few.low))


def test_without_texts_of_a_kind_there_is_no_auc_and_without_differences_no_interval():
    assert roc_auc([], [1.0]) is None
    assert roc_auc([1.0], []) is None
    assert (roc_auc([1.0, 1.0], [1.0]).auc, roc_auc([1.0, 1.0], [1.0]).low) == (0.5, None)


def normal(auc, spread):
    """Members with this spread, so that they are above others of spread 1 with this probability."""
    shift = math.sqrt(1 + spread**2) * stats.norm.ppf(auc)
    return lambda random, n, m: (random.normal(shift, spread, n), random.normal(0, 1, m))


@pytest.mark.parametrize(("n", "m"), [(6, 100), (30, 300)])
@pytest.mark.parametrize("spread", [1, 3])
@pytest.mark.parametrize("auc", [0.5, 0.9, 0.99])
def test_the_interval_of_an_auc_covers_the_true_one(random, auc, spread, n, m):
    drawn = normal(auc, spread)
    estimates = [roc_auc(*drawn(random, n, m)) for _ in range(600)]
    coverage = np.mean([estimate.low <= auc <= estimate.high for estimate in estimates])
    # 0.93 to 0.98, with 2.5 standard errors of 600 samples; six members are covered in more.
    assert 0.93 - 2.5 * 0.0104 < coverage <= (1 if n == 6 else 0.98 + 2.5 * 0.0057)
