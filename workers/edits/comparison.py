"""What an edit changed, with 95 % intervals, and whether the client's limits are kept."""

from array import array
from collections.abc import Iterator
from dataclasses import asdict
from math import expm1
from typing import Any, Final

import numpy as np

from app.contracts.edits import Limits
from app.contracts.results.evaluations import PASSED, against_limit
from app.contracts.results.gates import overall
from app.contracts.texts import TextSetRole
from workers.edits.evaluation import RECITED, Readings, Scored
from workers.edits.inputs import EditInputs
from workers.edits.membership import CHANCE, least_auc
from workers.edits.proof import Proven
from workers.science.evaluation.utility import ndcg_by_position
from workers.science.scoring.texts import Share, TextScore, extracted
from workers.science.statistics.estimates import as_object
from workers.science.statistics.intervals import weighted_mean
from workers.science.statistics.paired import PairedMeans, PairedShares
from workers.science.statistics.ratios import PairedCounts

JSONObject = dict[str, Any]
BEFORE: Final = "before"
AFTER: Final = "after"
# More groups than this are no kinds of questions.
_MOST_TASKS: Final = 100
# Beyond it exp leaves the floats.
_LARGEST_LOG: Final = 700.0


def compare(inputs: EditInputs, before: Readings, after: Readings, proven: Proven) -> JSONObject:
    """What changed from one model to the other, as `contracts.results.evaluations` reads it."""
    sets: JSONObject = {str(role): _set(scored, after.sets[role]) for role, scored in before.sets.items()}
    increase = _perplexity_increase(before, after)
    ranking = _ranking(before, after)
    return {
        "sets": sets,
        "perplexity_increase": increase,
        "ndcg": ranking,
        "stress": proven.stress,
        "items": {
            name: {"n": found["n"], BEFORE: found["accuracy"], AFTER: after.items[name]["accuracy"]}
            for name, found in before.items.items()
        }
        or None,
        "tasks": _tasks(before, after),
        "membership": proven.membership,
        "reference": proven.reference,
        "proof": proven.proof,
        "verdict": verdict(inputs.spec.evaluation.limits, sets, increase, ranking, proven.membership),
    }


def _set(before: Scored, after: Scored) -> JSONObject:
    """A text set under both models; what changed of it is told text by text."""
    nl = PairedMeans()
    shares: dict[Share, PairedShares] = {"strict": PairedShares(), "loose": PairedShares()}
    for was, became in zip(_scores(before), _scores(after), strict=True):
        nl.add(was.nl, became.nl)
        for name, share in shares.items():
            share.add(_recited(was, name), _recited(became, name))
    changes: JSONObject = {name: share.result()["change"] for name, share in shares.items()}
    changes["nl"] = nl.result()["change"]
    return {
        "texts": len(before.rows),
        **{
            number: {BEFORE: before.summary[number], AFTER: after.summary[number]}
            | ({"change": changes[number]} if number in changes else {})
            for number in ("nl", "strict", "loose", "perplexity")
        },
    }


def _recited(score: TextScore, measure: Share) -> bool | None:
    """Whether a text is recited; None where that was not measured, as of clean text."""
    return extracted(score, measure) if "extraction" in score.metrics else None


def _tasks(before: Readings, after: Readings) -> list[JSONObject] | None:
    """Accuracy by the group of questions; each question that both models could be asked is one pair."""
    if len(before.tasks) > _MOST_TASKS:
        return None
    found = []
    for task, was in before.tasks.items():
        pairs = [
            (one, other)
            for one, other in zip(was, after.tasks[task], strict=True)
            if one is not None and other is not None
        ]
        if pairs:
            kept = PairedCounts.of(pairs).ratio()
            changed = PairedShares.of(pairs).result()
            found.append({"task": task, "n": len(pairs), **changed, "kept": as_object(kept)})
    return found or None


def _perplexity_increase(before: Readings, after: Readings) -> JSONObject | None:
    """By which share the perplexity of clean text grew: exp(total growth of NLL / total tokens) - 1.

    Each text is compared with itself, so that what makes texts easy or hard drops out of the interval.
    """
    if TextSetRole.CLEAN not in before.sets:
        return None
    growth, tokens = array("d"), array("q")
    for was, became in zip(
        _scores(before.sets[TextSetRole.CLEAN]), _scores(after.sets[TextSetRole.CLEAN]), strict=True
    ):
        if was.nl is not None and became.nl is not None:
            growth.append(was.nl - became.nl)
            tokens.append(was.n_tokens)
    estimate = weighted_mean(growth, tokens)
    if estimate is None:
        return None
    ends: dict[str, float | None] = {"low": None, "high": None}
    if estimate.low is not None and estimate.high is not None and estimate.high < _LARGEST_LOG:
        ends = {"low": expm1(estimate.low), "high": expm1(estimate.high)}
    return {"n": estimate.n, "mean": expm1(min(estimate.mean, _LARGEST_LOG)), **ends}


def _scores(scored: Scored) -> Iterator[TextScore]:
    return (score for _, score in scored.rows)


def _ranking(before: Readings, after: Readings) -> JSONObject | None:
    """Mean nDCG over the positions of clean text; a text is one thing observed, with many positions."""
    if before.ranked is None or after.ranked is None:
        return None
    positions = np.asarray(before.ranked_positions)
    starts = np.cumsum(positions) - positions
    totals = np.add.reduceat(ndcg_by_position(before.ranked, after.ranked).numpy(), starts)
    estimate = weighted_mean(totals / positions, positions)
    assert estimate is not None
    return asdict(estimate.within(0.0, 1.0))


def verdict(
    limits: Limits,
    sets: JSONObject,
    increase: JSONObject | None,
    ranking: JSONObject | None,
    membership: JSONObject | None = None,
) -> JSONObject:
    """The limits that were given against what was measured.

    Fails if one limit is broken, and passes if all are kept; None without limits. Beside a reference, one
    that clearly avoids texts fails without any: it tells them apart as surely as one that recites them.
    """
    checks = []
    if limits.max_strict is not None:
        strict = {str(role): sets[role]["strict"][AFTER] for role in RECITED if role in sets}
        checks += [
            _check(f"max_strict:{role}", limits.max_strict, share, "share", at_most=True)
            for role, share in (strict or {str(TextSetRole.MEMORIZED): None}).items()
        ]
    if (most := limits.max_perplexity_increase) is not None:
        checks.append(_check("max_perplexity_increase", most, increase, "mean", at_most=True))
    if (least := limits.min_ndcg) is not None:
        checks.append(_check("min_ndcg", least, ranking, "mean", at_most=False))
    checks += _membership_checks(limits.max_auc_distance, membership)
    outcome = overall(check["outcome"] for check in checks) if checks else None
    return {"outcome": outcome, "passed": PASSED.get(outcome), "checks": checks}


def _membership_checks(distance: float | None, membership: JSONObject | None) -> list[JSONObject]:
    """How far AUCs may be from chance, on either side; without that limit, those clearly below a reference.

    Without a reference model an AUC below chance may be of the texts themselves: of one that never saw them.
    """
    losses = {role: scores["loss"] for role, scores in (membership or {}).items()}
    if distance is None:
        return [
            _membership_check("min", role, least_auc(found["reference"]), found["after"])
            for role, found in losses.items()
            if found["over_forgotten"] and (found["reference"] or {}).get("low") is not None
        ]
    return [
        _membership_check(end, role, CHANCE + side * distance, found["after"])
        for role, found in (losses or {str(TextSetRole.MEMORIZED): {"after": None}}).items()
        for end, side in (("min", -1), ("max", 1))
    ]


def _membership_check(end: str, role: str, limit: float, found: JSONObject | None) -> JSONObject:
    measured = None if found is None else {**found, "n": found["n_members"]}
    return _check(f"{end}_membership_auc:{role}", limit, measured, "auc", at_most=end == "max")


def _check(name: str, limit: float, measured: JSONObject | None, number: str, *, at_most: bool) -> JSONObject:
    """A limit against what was measured, if anything was."""
    found = measured or {"n": 0, number: None, "low": None, "high": None}
    outcome = against_limit(found["low"], found["high"], limit, at_most=at_most)
    return {
        "name": name,
        "limit": limit,
        "n": found["n"],
        "value": found[number],
        "low": found["low"],
        "high": found["high"],
        "outcome": outcome,
        "passed": PASSED.get(outcome),
    }
