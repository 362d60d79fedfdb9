"""Calibrated verdicts on simulated texts whose truth is known.

Oracles: the definition of a conformal p-value in a loop, scipy's permutation test and Benjamini-Hochberg by
its definition; texts drawn from known domains, of which a known part is memorized.
"""

from dataclasses import dataclass, replace
from functools import partial
from random import Random

import numpy as np
import pytest
from scipy import stats

from workers.science.calibration import calibration, exchangeability, grounds
from workers.science.calibration.comparison import ShownText, sample_texts
from workers.science.calibration.conformal import conformal_p_values, controls_needed, q_values
from workers.science.calibration.exchangeability import difference_p_value
from workers.science.calibration.grounds import CalibrationTexts, places_to_show
from workers.suite.biographies import draft_biographies
from workers.suite.multiple_choice import draft_items

MEMORIZED = 6.0  # standard deviations


@dataclass(frozen=True)
class CalibrationText:
    text: str
    statistic: float
    n_tokens: int
    reference: float | None = None
    group: int | None = None


def calibrate(audited, controls, *, fdr, seed):
    """Calibrated as a caller does it: first the places, then what stands there."""
    sides = [numbers_of(side) for side in (audited, controls)]
    places = places_to_show(*sides, seed=seed)
    shown = [
        [ShownText.of(side[at].text) for at in own]
        for side, own in zip((audited, controls), places, strict=True)
    ]
    return calibration.calibrate(*sides, tuple(shown), fdr=fdr, seed=seed)


def numbers_of(texts):
    def column(name, dtype):
        values = [getattr(text, name) for text in texts]
        return np.array(values, dtype) if values and values[0] is not None else None

    if not texts:
        return CalibrationTexts(np.empty(0), np.empty(0, int))
    return CalibrationTexts(
        column("statistic", float), column("n_tokens", int), column("reference", float), column("group", int)
    )


@pytest.fixture
def random():
    return np.random.default_rng(8)


def of_biographies(random, count):
    return [draft.text for draft in draft_biographies(count, Random(int(random.integers(2**32))))]


def of_items(random, count):
    return [draft.text for draft in draft_items(count, Random(int(random.integers(2**32))))]


def never_seen(random, texts, *, mean=0.0):
    statistics = random.normal(mean, 1, len(texts))
    return [
        CalibrationText(text, float(statistic), len(text) // 4)
        for text, statistic in zip(texts, statistics, strict=True)
    ]


def memorized(texts):
    return [replace(text, statistic=text.statistic + MEMORIZED) for text in texts]


def test_conformal_p_values_are_their_definition_with_ties(random):
    audited, controls = random.integers(0, 9, 40).astype(float), random.integers(0, 9, 25).astype(float)
    explicit = [(1 + sum(control >= text for control in controls)) / (len(controls) + 1) for text in audited]
    assert conformal_p_values(audited, controls).tolist() == explicit


def test_q_values_are_the_least_rate_at_which_benjamini_and_hochberg_reject(random):
    p_values = np.append(random.uniform(size=30), [0.001, 0.001, 0.01])
    ordered = np.sort(p_values)
    expected = [
        min(p * len(ordered) / (rank + 1) for rank, p in enumerate(ordered) if p >= own) for own in p_values
    ]
    assert q_values(p_values) == pytest.approx(np.minimum(expected, 1))
    assert len(q_values(np.array([]))) == 0


@pytest.mark.parametrize(("fdr", "needed"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.3, 3), (0.5, 1)])
def test_with_the_controls_needed_one_text_can_be_found(fdr, needed):
    assert controls_needed(fdr) == needed
    assert 1 / (needed + 1) <= fdr < 1 / needed


def test_the_permutation_test_is_scipys(random):
    audited, controls = random.normal(0.4, 1, 30), random.normal(0, 1, 40)
    theirs = stats.permutation_test(
        (audited, controls),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        alternative="greater",
        vectorized=True,
        rng=1,
    )
    statistics, labels = np.append(audited, controls), np.arange(70) < 30
    ours = difference_p_value(statistics, labels, [np.arange(70)], random)
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.01)


def test_a_permutation_within_blocks_ignores_what_differs_between_them(random):
    # Three quarters of the higher block are audited: overall they are higher, within blocks they are not.
    labels = np.array([True] * 30 + [False] * 10 + [True] * 10 + [False] * 30)
    statistics = random.normal(0, 1, 80) + np.repeat([5.0, 0.0], 40)
    blocks = [np.arange(40), np.arange(40, 80)]
    assert difference_p_value(statistics, labels, [np.arange(80)], random).p_value < 0.001
    assert difference_p_value(statistics, labels, blocks, random).p_value > 0.05


def test_memorized_texts_are_found_and_the_effect_is_told(random):
    texts = never_seen(random, of_biographies(random, 260))
    result = calibrate(memorized(texts[:10]) + texts[10:60], texts[60:], fdr=0.1, seed=0)
    assert result.reason is None
    assert result.check.passed
    assert (result.strata, result.check_within_strata, result.uncalibrated) == (1, None, 0)
    assert result.verdicts[:10] == ["memorized"] * 10
    assert result.memorized == result.verdicts.count("memorized") <= 12
    assert [verdict == "memorized" for verdict in result.verdicts] == (result.q_values <= 0.1).tolist()
    assert result.effect.low < MEMORIZED / 6 < result.effect.high
    assert result.permutation_p < 0.001
    assert (result.least_p, result.least_p_of_all, result.least_memorized) == (1 / 201, 1 / 201, 3)
    again = calibrate(memorized(texts[:10]) + texts[10:60], texts[60:], fdr=0.1, seed=0)
    assert (result.q_values == again.q_values).all()
    assert (result.check, result.permutation_p) == (again.check, again.permutation_p)


@pytest.mark.parametrize(("n", "expected"), [(39, 2 / 40), (32, 1 / 33), (99, 5 / 100)])
def test_p_values_of_texts_that_were_never_seen_are_uniform(random, n, expected):
    low = [conformal_p_values(*np.split(random.exponential(size=n + 1), [1])) <= 0.05 for _ in range(4_000)]
    assert np.mean(low) == pytest.approx(expected, abs=3 * 0.0035)


def test_controls_of_another_domain_give_no_verdict(random):
    for seed in range(2):
        audited = never_seen(random, of_biographies(random, 30), mean=1)
        result = calibrate(audited, never_seen(random, of_items(random, 60)), fdr=0.05, seed=seed)
        assert result.reason == "controls_differ"
        assert result.check.auc > 0.95
        assert (result.memorized, result.uncalibrated, result.permutation_p) == (0, 30, None)
        assert set(result.verdicts) == {"uncalibrated"}
        assert np.isnan([result.p_values, result.q_values]).all()
        assert result.effect.mean > 0


def test_controls_that_are_all_shorter_are_none_to_compare_with(random):
    texts = of_biographies(random, 140)
    result = calibrate(
        never_seen(random, texts[:60]),
        never_seen(random, [text[:60] for text in texts[60:]]),
        fdr=0.05,
        seed=0,
    )
    assert (result.reason, result.check_within_strata, result.uncalibrated) == ("controls_differ", None, 60)


@pytest.mark.parametrize("domain", [of_biographies, of_items])
def test_controls_of_the_same_domain_are_seldom_told_apart(random, domain):
    texts, refused = domain(random, 300), 0
    labels, lengths = np.arange(60) < 30, np.full(60, 50)
    for _ in range(15):
        drawn = random.choice(texts, 60, replace=False).tolist()
        check = sample_texts([ShownText.of(text) for text in drawn], lengths, labels).check(
            np.zeros(60, dtype=int), random
        )
        refused += not check.passed
    assert refused <= 3  # of 15 at a level of 0.03


def test_copies_on_one_side_do_not_feign_a_difference(random):
    """Ten texts twelve times each, each time with another end, and controls of the same domain."""
    passed = 0
    for _ in range(6):
        texts = of_biographies(random, 70)
        copies = [f"{text[:-5]}{random.integers(16**4):04x}." for text in texts[:10] for _ in range(12)]
        drawn = [*copies, *texts[10:]]
        labels = np.arange(len(drawn)) < len(copies)
        sampled = sample_texts([ShownText.of(text) for text in drawn], np.full(len(drawn), 50), labels)
        check = sampled.check(np.zeros(len(drawn), dtype=int), random)
        passed += check.passed
        assert check.n_controls == 60
        assert check.n_audited == 10
    assert passed >= 5


def test_texts_that_differ_in_length_alone_are_compared_within_strata(random):
    def texts(count, longest):
        words = random.choice(np.array([f"word{n}" for n in range(300)]), (count, longest))
        lengths = random.integers(10, longest, count)
        return [
            CalibrationText(" ".join(row[:n]), float(random.normal(n / 20)), int(n))
            for row, n in zip(words, lengths, strict=True)
        ]

    audited, controls = texts(200, 70), texts(400, 50)
    result = calibrate(memorized(audited[:40]) + audited[40:], controls, fdr=0.1, seed=1)
    assert not result.check.passed
    assert (result.reason, result.check_within_strata.passed) == (None, True)
    assert 2 <= result.strata <= 5
    # The strata share the 400 controls: the smallest has at most their part, the largest as many at least.
    assert 1 / result.least_p_of_all - 1 <= 400 / result.strata
    assert result.least_p < result.least_p_of_all <= np.nanmax(result.p_values)
    shown = result.verdicts
    assert shown[:40].count("memorized") + shown[:40].count("uncalibrated") == 40
    assert shown[40:].count("memorized") <= 10
    assert result.uncalibrated < 100


def test_too_few_texts_of_a_kind_are_said_to_be_too_few(random):
    texts = partial(lambda count: never_seen(random, of_biographies(random, count)))
    few = calibrate(texts(20), texts(18), fdr=0.05, seed=0)
    assert (few.reason, few.uncalibrated) == ("too_few_controls", 20)
    assert few.check.auc is not None
    assert calibrate(texts(4), texts(40), fdr=0.05, seed=0).reason == "too_few_texts"
    assert calibrate(texts(4), [], fdr=0.05, seed=0).reason == "too_few_controls"
    nothing = calibrate([], texts(40), fdr=0.05, seed=0)
    assert (nothing.reason, nothing.verdicts, nothing.effect) == ("too_few_texts", [], None)
    assert calibrate([], [], fdr=0.05, seed=0).verdicts == []


def test_references_come_with_all_texts_or_none(random):
    texts = never_seen(random, of_biographies(random, 50))
    with pytest.raises(ValueError, match="or none"):
        calibrate([replace(texts[0], reference=-1.0)], texts[1:], fdr=0.05, seed=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate(texts[:20], texts[20:], fdr=1, seed=0)


def test_many_permutations_are_summed_up_by_their_moments(random):
    """The normal distribution above 100,000 texts agrees with permutations of fewer."""
    statistics, labels = random.exponential(size=4_000), random.random(4_000) < 0.4
    statistics[labels] += 0.02
    blocks = [np.arange(3_000), np.arange(3_000, 4_000)]
    drawn = difference_p_value(statistics, labels, blocks, random)
    repeated = [np.concatenate([block + 4_000 * n for n in range(30)]) for block in blocks]
    one = exchangeability._normal_p_value(statistics, labels, blocks)
    assert drawn.permutations > 999
    assert one == pytest.approx(drawn.p_value, abs=0.02)
    many = difference_p_value(np.tile(statistics, 30), np.tile(labels, 30), repeated, random)
    assert many.permutations == 0
    assert 1e-4 <= many.p_value < one


def test_kinds_that_are_mixed_otherwise_are_judged_by_controls_of_their_own():
    """One kind is far more likely than another, and the audited texts hold more of it than the controls."""
    random = np.random.default_rng(1)
    high = [replace(t, group=1) for t in never_seen(random, of_items(random, 150), mean=20)]
    low = [replace(t, group=2) for t in never_seen(random, of_biographies(random, 150))]
    alone = [replace(t, group=3) for t in never_seen(random, of_biographies(random, 5))]
    audited = [*memorized(low[:10]), *low[10:30], *high[:130], *alone]
    result = calibrate(audited, [*low[30:], *high[130:]], fdr=0.3, seed=0)
    assert (result.reason, result.check.passed, result.groups) == (None, False, 2)
    # Among all controls these would be unremarkable: the other kind is far above them.
    assert (result.p_values[:10] <= 0.1).all()
    others = result.p_values[10:160]
    assert 0.02 <= (others[np.isfinite(others)] <= 0.1).mean() <= 0.2
    assert result.verdicts[-5:] == ["uncalibrated"] * 5
    mixed_alike = calibrate([*low[:50], *high[:50]], [*low[50:], *high[50:]], fdr=0.3, seed=0)
    assert (mixed_alike.check.passed, mixed_alike.groups, mixed_alike.strata) == (True, None, 1)


def test_a_comparison_that_strata_do_not_change_is_not_checked_again(random, monkeypatch):
    """With one stratum the same texts would have a second chance by other permutations."""
    whole = lambda n_tokens, *_, **__: np.zeros(len(n_tokens), dtype=int)  # noqa: E731
    monkeypatch.setattr(grounds, "stratify", whole)
    audited = never_seen(random, of_biographies(random, 30))
    result = calibrate(audited, never_seen(random, of_items(random, 60)), fdr=0.05, seed=0)
    assert (result.reason, result.check_within_strata) == ("controls_differ", None)
