"""Rules on what a subject found as a whole, observed of its stored result."""

from app.contracts.policies.mean_difference import MeanDifference
from app.contracts.policies.membership_auc import MembershipAUC
from app.contracts.policies.no_newly_memorized import NoNewlyMemorized
from app.contracts.policies.perplexity import Perplexity
from app.contracts.results.gates import MOST_DECIDING
from app.contracts.results.intervals import MeanInterval
from app.contracts.results.observations import Observation
from app.contracts.results.studies import Change
from workers.gates.controls import least_q
from workers.gates.observed import Observed
from workers.gates.subject import JSONObject, Judged, measures
from workers.science.statistics.intervals import CONFIDENCE


def membership_auc(judged: Judged, rule: MembershipAUC) -> Observed:
    """By the area of the summary."""
    audit = judged.audit_for(rule)
    if not measures(audit, "membership"):
        return Observed(Observation(missing="not_measured"))
    found: JSONObject | None = (audit.summary or {}).get("membership")
    if found is None or not found["n_members"] or not found["n_others"]:
        return Observed(Observation(missing="no_labels"))
    separation: JSONObject | None = found[rule.score]
    if separation is None:
        return Observed(Observation(missing="not_measured"))
    area = separation["auc"]
    return Observed(
        Observation(
            value=area["auc"],
            n=area["n_members"] + area["n_others"],
            low=area["low"],
            high=area["high"],
            confidence=CONFIDENCE,
        )
    )


def perplexity(judged: Judged, rule: Perplexity) -> Observed:  # noqa: ARG001 - as all observers
    """By the edit's evaluation."""
    return Observed(_mean(judged.evaluation.perplexity_increase))


def mean_difference(judged: Judged, rule: MeanDifference) -> Observed:
    """By the comparison of a pair, over the texts of a group or all."""
    (compared,) = judged.study.comparisons
    for level in compared.levels:
        if level.duplicates is None and level.group == rule.group:
            return Observed(_mean(level.difference))
    return Observed(Observation(missing="no_texts"))


def no_newly_memorized(judged: Judged, rule: NoNewlyMemorized) -> Observed:
    """By the changes from an earlier version to the last."""
    change = _change_since(judged, rule.since)
    found, judgement = change.newly_memorized, change.rise
    if found is None or judgement is None:
        too_few = change.reason == "too_few_controls"
        return Observed(Observation(missing="too_few_controls" if too_few else "uncalibrated"))
    n = judgement.n_texts - judgement.verdicts.uncalibrated
    least = least_q(judgement.model_dump(), rule.detects)
    unnamed = least is None or least > judgement.fdr
    observation = Observation(
        value=float(found.count),
        n=n,
        count=found.count,
        unmeasured=judged.audit_for(rule).texts_total - n,
        least_q=least,
        missing="too_few_controls" if unnamed else None,
    )
    return Observed(observation, [text.text_id for text in found.texts][:MOST_DECIDING], found.count)


def _change_since(judged: Judged, label: str | None) -> Change:
    labels = [model.label for model in judged.study.models]
    pair = (labels[-2] if label is None else label, labels[-1])
    (change,) = (each for each in judged.study.changes or () if (each.from_label, each.to_label) == pair)
    return change


def _mean(found: MeanInterval | None) -> Observation:
    if found is None:
        return Observation(missing="not_measured")
    confidence = None if found.low is None else CONFIDENCE
    return Observation(value=found.mean, n=found.n, low=found.low, high=found.high, confidence=confidence)
