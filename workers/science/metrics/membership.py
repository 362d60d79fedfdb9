"""Membership: scores by which texts that a language model was trained on stand out.

Sources: Yeom et al., arXiv 1709.01604 (loss); Carlini et al., arXiv 2012.07805 (zlib); Shi et al., arXiv
2310.16789 (Min-K%); Zhang et al., arXiv 2404.02936 (Min-K%++); Xie et al., arXiv 2406.15968 (ReCaLL). All of
them are written so that a member has the higher score. The papers leave a first token out, for want of
anything before it; here it counts wherever a prefix token gives it a probability.
"""

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.science.metrics.metric import JSONObject, Metric, MetricResult, Need
from workers.science.metrics.splits import Split
from workers.science.metrics.tokens import ScoredTokens
from workers.science.statistics.intervals import Values
from workers.science.statistics.ranking import roc_auc, tpr_at_fpr

# Variances below this are taken for it: where the model is all but certain, rounding alone would decide.
LEAST_VARIANCE: Final = 1e-6
SCORES: Final = ("loss", "zlib", "min_k", "min_k_pp", "reference", "recall")
FALSE_POSITIVE_RATES: Final = (0.01, 0.001)


def lowest_mean(values: npt.NDArray[np.float64], share: float) -> float:
    """The mean of the lowest `share` of values [n], rounded down to whole ones, and of one at least."""
    count = max(1, int(len(values) * share))
    return float(np.sort(values)[:count].mean())


def standardized(tokens: ScoredTokens) -> npt.NDArray[np.float64]:
    """(log p - mean) / deviation of each token, float64 [n]: Min-K%++ before its lowest are taken."""
    log_likelihood, mean, deviation = (
        found.astype(np.float64) for found in (tokens.log_likelihood, tokens.mean, tokens.deviation)
    )
    return (log_likelihood - mean) / np.sqrt(np.maximum(np.square(deviation), LEAST_VARIANCE))


def membership_metric(tokens: ScoredTokens) -> MetricResult:
    """The scores of a text, each the higher the more likely it is a member.

    Returns:
        `loss`: mean log-likelihood per token in nats, at most 0. `zlib`: that over the bytes of the text as
        zlib compresses it, at most 0. `min_k`: mean log-likelihood of the share `min_k` of tokens that have
        the lowest, at most 0. `min_k_pp`: mean of the lowest share of `standardized`, without a unit.
        `recall`: log-likelihood after the shots over that without them, on the same tokens, at least 0; None
        without shots, for a text that is one of them, and where the model is certain of all of these tokens.
        `reference` is None: it takes
        another model.
    """
    unscored = len(tokens.token_ids) - tokens.n_scored
    loss = float(tokens.log_likelihood.sum(dtype=np.float64)) / tokens.n_scored
    return {
        "loss": loss,
        "zlib": loss / len(zlib.compress(tokens.text.encode())),
        "min_k": lowest_mean(tokens.log_likelihood[unscored:].astype(np.float64), tokens.min_k),
        "min_k_pp": lowest_mean(standardized(tokens)[unscored:], tokens.min_k),
        "reference": None,
        "recall": recall(tokens),
    }


def recall(tokens: ScoredTokens) -> float | None:
    """LL(x | P) / LL(x) of the tokens that fit the context after the shots P (arXiv 2406.15968)."""
    if tokens.after_shots is None:
        return None
    counted = slice(len(tokens.token_ids) - tokens.n_scored, len(tokens.after_shots))
    alone = float(tokens.log_likelihood[counted].sum(dtype=np.float64))
    after = float(tokens.after_shots[counted].sum(dtype=np.float64))
    return after / alone if alone else None


def _compute(tokens: ScoredTokens, _splits: Sequence[Split]) -> MetricResult:
    return membership_metric(tokens)


class MembershipSummary:
    """How well each score tells members from others. Keeps a float64 of each score, and no rows."""

    def __init__(self) -> None:
        # By score, those of others and those of members.
        self._scores = {name: (array("d"), array("d")) for name in SCORES}
        self._n_members = self._n_others = 0

    def add(self, found: JSONObject, *, member: bool) -> None:
        """Count one text."""
        self._n_members += member
        self._n_others += not member
        for name, by_membership in self._scores.items():
            if found[name] is not None:
                by_membership[member].append(found[name])

    def result(self) -> JSONObject | None:
        """A `Separation` by score, None where a side has none; None if no text is known to be either."""
        if not self._n_members + self._n_others:
            return None
        return {
            "n_members": self._n_members,
            "n_others": self._n_others,
            **{name: _separation(*by_membership) for name, by_membership in self._scores.items()},
        }


def _separation(others: Values, members: Values) -> JSONObject | None:
    auc = roc_auc(members, others)
    if auc is None:
        return None
    return {
        "auc": asdict(auc),
        "at_fpr": [asdict(tpr_at_fpr(members, others, fpr)) for fpr in FALSE_POSITIVE_RATES],
    }


METRIC = Metric(
    name="membership",
    compute=_compute,
    needs=frozenset({Need.MOMENTS, Need.SHOTS}),
    labelled=MembershipSummary,
)
