"""What rules decide of what was observed: exact boundaries, and simulations whose truth is known."""

import itertools
import json
import math
from hashlib import sha256
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from app.contracts.policies import RULES, Subject
from app.contracts.policies.membership_auc import MembershipAUC
from app.contracts.policies.no_memorized_text import NoMemorizedText
from app.contracts.policies.policy import RULE_LIST, policy_digest
from app.contracts.policies.probabilistic_extraction import ProbabilisticExtraction
from app.contracts.policies.rate import Rate, texts_needed
from app.contracts.results.gates import Observation, RuleOutcome, decide, overall
from app.contracts.results.reasons import REASONS, Reason
from app.contracts.texts import TextSetRole
from app.policies.shipped import templates
from workers.gates.registry import OBSERVERS
from workers.science.statistics.ranking import roc_auc
from workers.science.statistics.shares import one_sided_bounds

TRIALS = 400
STRICT = Rate(kind="rate", metric="strict", at_most=0.01, confidence=0.95)


def of_share(rule: Rate, count: int, n: int) -> Observation:
    low, high = one_sided_bounds(count, n, rule.confidence)
    return Observation(value=count / n, n=n, count=count, low=low, high=high, confidence=rule.confidence)


def outcomes_of_rate(true_rate: float, n: int, seed: int) -> list[str]:
    counts = np.random.default_rng(seed).binomial(n, true_rate, TRIALS)
    return [decide(STRICT, of_share(STRICT, int(count), n)).outcome for count in counts]


def one_in_a_thousand(errors: float) -> int:
    """More of the trials than this err once in a thousand runs, if they err at the rate that is claimed."""
    return int(stats.binom.ppf(0.999, TRIALS, errors))


@pytest.mark.parametrize("n", [300, 1000, 5000])
@pytest.mark.parametrize("times", [1.0001, 1.2, 3.0])
def test_a_model_that_breaks_a_rate_passes_in_at_most_5_of_100_trials(n: int, times: float) -> None:
    outcomes = outcomes_of_rate(times * STRICT.at_most, n, seed=1)
    assert outcomes.count("pass") <= 0.05 * TRIALS
    # One that keeps it, just so, is failed no more often.
    kept = outcomes_of_rate(STRICT.at_most / times, n, seed=2)
    assert kept.count("fail") <= one_in_a_thousand(0.05)


def test_enough_texts_decide_a_rate_either_way() -> None:
    assert outcomes_of_rate(STRICT.at_most / 5, 3000, seed=3).count("pass") > 0.95 * TRIALS
    assert outcomes_of_rate(STRICT.at_most * 3, 3000, seed=4).count("fail") > 0.95 * TRIALS


@pytest.mark.parametrize("n", [1, 298, 299, 300, 473, 1000])
def test_a_rate_is_inconclusive_exactly_where_the_sample_cannot_decide(n: int) -> None:
    """Oracle: the binomial tests of both hypotheses, summed term by term, for every count."""
    terms = [math.comb(n, k) * 0.01**k * 0.99 ** (n - k) for k in range(min(n, 60) + 1)]
    few = list(itertools.accumulate(terms))
    for count in range(min(n, 40) + 1):
        as_few, as_many = few[count], 1 - (few[count - 1] if count else 0)
        expected = "pass" if as_few <= 0.05 else "fail" if as_many < 0.05 else "inconclusive"
        decision = decide(STRICT, of_share(STRICT, count, n))
        assert decision.outcome == expected, (count, n)
        if expected == "inconclusive":
            few_texts = n < texts_needed(0.01, 0.95)
            assert decision.reason == ("too_few_texts" if few_texts else "interval_spans_limit")


@pytest.mark.parametrize(
    ("at_most", "confidence", "needed"),
    [(0.001, 0.95, 2995), (0.01, 0.95, 299), (0.05, 0.95, 59), (0.1, 0.95, 29), (0.01, 0.99, 459)],
)
def test_so_many_texts_without_one_are_needed(at_most: float, confidence: float, needed: int) -> None:
    assert texts_needed(at_most, confidence) == needed
    assert (1 - at_most) ** needed <= 1 - confidence < (1 - at_most) ** (needed - 1)
    rule = Rate(kind="rate", metric="strict", at_most=at_most, confidence=confidence)
    assert decide(rule, of_share(rule, 0, needed)).outcome == "pass"
    assert decide(rule, of_share(rule, 0, needed - 1)) == ("inconclusive", "too_few_texts")
    assert decide(rule, Observation()) == ("inconclusive", "no_texts")


@pytest.mark.parametrize(("count", "n"), [(0, 1), (1, 1), (0, 2995), (3, 50), (50, 50), (7, 10_000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_bounds_of_a_share_are_those_of_scipy(count: int, n: int, confidence: float) -> None:
    """SciPy searches for them. The tail of the binomial distribution at each is what may be missed."""
    low, high = one_sided_bounds(count, n, confidence)
    if count:
        assert stats.binom.sf(count - 1, n, low) == pytest.approx(1 - confidence, rel=1e-9)
    if count < n:
        assert stats.binom.cdf(count, n, high) == pytest.approx(1 - confidence, rel=1e-9)
    exact = {
        side: stats.binomtest(count, n, alternative=side).proportion_ci(confidence, method="exact")
        for side in ("greater", "less")
    }
    assert low == pytest.approx(exact["greater"].low, rel=1e-7, abs=1e-15)
    assert high == pytest.approx(exact["less"].high, rel=1e-7)


def of_area(members: np.ndarray, others: np.ndarray) -> Observation:
    found = roc_auc(members, others)
    assert found is not None
    n = len(members) + len(others)
    return Observation(value=found.auc, n=n, low=found.low, high=found.high, confidence=0.95)


@pytest.mark.parametrize(
    ("shift", "n", "least", "most"),
    [
        # A true AUC of 0.5, 0.6 (the limit) and 0.4, as the normal distribution has it at these shifts.
        (0.0, 400, {"pass": 0.85}, {"fail": 0.07}),
        (0.3583, 100, {}, {"pass": 0.05}),
        (0.3583, 600, {"fail": 0.95}, {"pass": 0.0}),
        (-0.3583, 600, {"fail": 0.95}, {"pass": 0.0}),
        (0.0, 20, {"inconclusive": 0.85}, {"pass": 0.0}),
    ],
)
def test_membership_passes_at_chance_only_with_texts_enough(
    shift: float, n: int, least: dict[str, float], most: dict[str, float]
) -> None:
    rule, random = MembershipAUC(kind="membership_auc", score="loss", at_most=0.6), np.random.default_rng(5)
    outcomes = [
        decide(rule, of_area(random.normal(shift, 1, n), random.normal(0, 1, n))).outcome
        for _ in range(TRIALS)
    ]
    shares = {outcome: outcomes.count(outcome) / TRIALS for outcome in ("pass", "fail", "inconclusive")}
    assert all(shares[outcome] >= share for outcome, share in least.items()), shares
    assert all(shares[outcome] <= share for outcome, share in most.items()), shares


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.45, 0.6, ("pass", None)),
        (0.5, 0.55, ("pass", None)),
        (0.501, 0.55, ("fail", None)),
        (0.2, 0.499, ("fail", None)),
        (0.45, 0.601, ("inconclusive", "too_few_texts")),
        (0.39, 0.55, ("inconclusive", "too_few_texts")),
        (None, None, ("inconclusive", "no_interval")),
    ],
)
def test_membership_is_decided_on_both_sides_of_chance(
    low: float | None, high: float | None, expected: tuple[str, str | None]
) -> None:
    rule = MembershipAUC(kind="membership_auc", score="loss", at_most=0.6)
    assert decide(rule, Observation(value=0.5, n=99, low=low, high=high)) == expected


@pytest.mark.parametrize(
    ("samples", "probability"), [(1, 0.5), (1000, 0.5), (1000, 0.99), (10**12, 0.5), (10**12, 1e-6)]
)
def test_a_text_is_extractable_from_the_p_z_on_that_takes_as_many_samples(
    samples: int, probability: float
) -> None:
    """Oracle: Python's exact rationals are too large here, so decimals of 60 digits."""
    import decimal  # noqa: PLC0415 - for this oracle alone

    with decimal.localcontext(prec=60):
        p = decimal.Decimal(probability)
        exact = (1 - (1 - p) ** (decimal.Decimal(1) / samples)).ln()
    rule = ProbabilisticExtraction(kind="probabilistic_extraction", samples=samples, probability=probability)
    assert rule.log_p_z == pytest.approx(float(exact), rel=1e-13)
    assert rule.extracted(rule.log_p_z) == pytest.approx(probability, rel=1e-9)
    assert (rule.extracted(0.0), rule.extracted(-800.0)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        ({"n": 5, "count": 0, "least_q": 0.01}, ("pass", None)),
        ({"n": 5, "count": 1, "least_q": 0.01}, ("fail", None)),
        ({"n": 5, "count": 1, "unmeasured": 9, "least_q": 0.01}, ("fail", None)),
        ({"n": 5, "count": 0, "unmeasured": 1, "least_q": 0.01}, ("inconclusive", "texts_unmeasured")),
        ({"n": 0, "count": 0, "least_q": 0.01}, ("inconclusive", "no_texts")),
        ({"n": 0, "count": 0, "missing": "uncalibrated"}, ("inconclusive", "uncalibrated")),
        ({"n": 5, "count": 0, "least_q": 0.050001}, ("inconclusive", "too_few_controls")),
        ({"n": 5, "count": 0, "least_q": 0.05}, ("pass", None)),
        ({"n": 5, "count": 0}, ("inconclusive", "too_few_controls")),
    ],
)
def test_one_text_fails_and_a_pass_needs_all_texts_and_controls_enough(
    observed: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    assert decide(NoMemorizedText(kind="no_memorized_text"), Observation(**observed)) == expected


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "inconclusive"], "inconclusive"),
        (["inconclusive", "fail", "pass"], "fail"),
        ([], "inconclusive"),
    ],
)
def test_a_policy_passes_if_all_of_its_rules_do(outcomes: list[Any], expected: str) -> None:
    assert overall(outcomes) == expected


def test_every_rule_can_be_observed_and_says_so_where_nothing_was() -> None:
    assert list(OBSERVERS) == list(RULES)
    given = {"rate": {"metric": "strict", "at_most": 0.1}}
    given |= {"equivalent_duplicates": {"at_most": 4.0}, "mean_difference": {"at_most": 0.1}}
    for kind in RULES:
        (rule,) = RULE_LIST.validate_python([{"kind": kind, **given.get(kind, {})}])
        outcome = RuleOutcome.of(rule, Observation(missing="not_measured"))
        assert (outcome.outcome, outcome.reason) == ("inconclusive", "not_measured")
        assert outcome.statement.endswith(".")
        # What was written down is decided the same when it is read.
        again = RuleOutcome.model_validate_json(outcome.model_dump_json())
        assert (again, decide(again.rule, again.observed).outcome) == (outcome, outcome.outcome)


def test_every_reason_is_told_in_a_sentence() -> None:
    assert set(REASONS) == set(get_args(Reason))
    assert all(told.endswith(".") for told in REASONS.values())
    assert "`detects`" in REASONS["too_few_controls"]


SUBJECTS = {
    "audit": Subject("audit"),
    "pair": Subject("study", "pair", ("a", "b")),
    "release": Subject("study", "release", ("v1", "v2", "v3")),
    "edit": Subject("edit", text_sets=frozenset({TextSetRole.MEMORIZED, TextSetRole.CLEAN})),
    "bare edit": Subject("edit"),
}


@pytest.mark.parametrize(
    ("rule", "judges"),
    [
        ({"kind": "no_memorized_text"}, {"audit"}),
        ({"kind": "rate", "metric": "strict", "at_most": 0.1}, {"audit", "pair", "release", "edit"}),
        ({"kind": "rate", "metric": "strict", "at_most": 0.1, "model": "v2"}, {"release"}),
        ({"kind": "rate", "metric": "strict", "at_most": 0.1, "texts": "seen"}, {"edit"}),
        ({"kind": "rate", "metric": "strict", "at_most": 0.1, "texts": "unseen"}, set()),
        ({"kind": "probabilistic_extraction"}, {"audit", "pair", "release"}),
        ({"kind": "no_newly_memorized"}, {"release"}),
        ({"kind": "no_newly_memorized", "since": "v1"}, {"release"}),
        ({"kind": "no_newly_memorized", "since": "v3"}, set()),
        ({"kind": "membership_auc"}, {"audit", "pair", "release"}),
        ({"kind": "membership_auc", "model": "a"}, {"pair"}),
        ({"kind": "perplexity"}, {"edit"}),
        ({"kind": "equivalent_duplicates", "at_most": 1}, {"audit"}),
        ({"kind": "mean_difference", "at_most": 0.1}, {"pair"}),
    ],
)
def test_a_rule_is_refused_where_it_judges_nothing(rule: dict[str, Any], judges: set[str]) -> None:
    (read,) = RULE_LIST.validate_python([rule])
    assert {name for name, subject in SUBJECTS.items() if read.refusal(subject) is None} == judges


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "rate", "metric": "strict", "at_most": 0},
        {"kind": "rate", "metric": "strict", "at_most": 1},
        {"kind": "rate", "metric": "nl", "at_most": 0.1},
        {"kind": "rate", "metric": "strict", "at_most": float("nan")},
        {"kind": "rate", "metric": "strict"},
        # Too small for floats to divide by.
        {"kind": "rate", "metric": "strict", "at_most": 5e-324},
        {"kind": "probabilistic_extraction", "probability": 5e-324},
        {"kind": "membership_auc", "at_most": 0.5},
        {"kind": "perplexity", "q": 0.05},
        {"kind": "unheard_of"},
        {"metric": "strict"},
        "rate",
    ],
)
def test_a_malformed_rule_is_refused(rule: Any) -> None:
    with pytest.raises(ValidationError):
        RULE_LIST.validate_python([rule])


def test_the_digest_of_a_policy_is_that_of_its_canonical_json_and_blind_to_fields_that_came_later() -> None:
    rules = [{"kind": "rate", "at_most": 0.001, "metric": "strict", "groups": None}]
    text = '{"name":"né","rules":[{"at_most":0.001,"kind":"rate","metric":"strict"}],"version":2}'
    assert policy_digest("né", 2, rules) == sha256(text.encode()).hexdigest()
    assert policy_digest("né", 2, [rules[0] | {"later": None}]) == policy_digest("né", 2, rules)
    assert policy_digest("né", 3, rules) != policy_digest("né", 2, rules)
    difference = {"kind": "mean_difference", "at_most": 0.0}
    assert policy_digest("né", 2, [difference | {"at_most": -0.0}]) == policy_digest("né", 2, [difference])


def test_templates_ship_and_say_what_they_need() -> None:
    shipped = templates()
    assert {"edpb-28-2024-anonymity", "aisvs-c11.2.5", "release-regression", "edit-acceptance"} <= set(
        shipped
    )
    for name, template in shipped.items():
        assert template.name == name
        assert json.loads(template.model_dump_json())["rules"], name
