"""Membership: scores by which texts that a language model was trained on stand out.

Sources: Yeom et al., arXiv 1709.01604 (loss); Carlini et al., arXiv 2012.07805 (zlib); Shi et al., arXiv
2310.16789 (Min-K%); Zhang et al., arXiv 2404.02936 (Min-K%++); Xie et al., arXiv 2406.15968 (ReCaLL). All of
them are written so that a member has the higher score. The papers leave a first token out, for want of
anything before it; here it counts wherever a prefix token gives it a probability.
"""

import math
import zlib
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
from workers.science.statistics.reservoir import Reservoir

# Variances below this are taken for it: where the model is all but certain, rounding alone would decide.
LEAST_VARIANCE: Final = 1e-6
SCORES: Final = ("loss", "zlib", "min_k", "min_k_pp", "reference", "recall")
FALSE_POSITIVE_RATES: Final = (0.01, 0.001)
# Texts of each kind that are ranked. Of so many the interval of an AUC is at most 0.006 wide, and the
# threshold of the lowest rate has 100 others above it.
MOST_RANKED: Final = 100_000
SEED: Final = 0


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
    """How well each score tells members from others. Keeps no rows, but scores of `room` texts of each kind.

    Of more texts of a kind it keeps a simple random sample. An area and its interval are then those of the
    sample, and the interval holds for all texts, as it would for any of which these are drawn.
    """

    def __init__(self, room: int = MOST_RANKED) -> None:
        self._others, self._members = (Reservoir(len(SCORES), room=room, seed=SEED) for _ in range(2))

    def add(self, found: JSONObject, *, member: bool) -> None:
        """Count one text."""
        side = self._members if member else self._others
        side.add([math.nan if found[name] is None else found[name] for name in SCORES])

    def result(self) -> JSONObject | None:
        """A `Separation` by score, None where a side has none; None if no text is known to be either."""
        others, members = self._others, self._members
        if not others.rows + members.rows:
            return None
        sampled = len(others) < others.rows or len(members) < members.rows
        sample = {"n_members": len(members), "n_others": len(others), "seed": SEED}
        return {
            "n_members": members.rows,
            "n_others": others.rows,
            "sample": sample if sampled else None,
            **{
                name: _separation(_known(others.column(number)), _known(members.column(number)))
                for number, name in enumerate(SCORES)
            },
        }


def _known(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return scores[~np.isnan(scores)]


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
