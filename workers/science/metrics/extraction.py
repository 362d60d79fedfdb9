"""Verbatim extraction: what greedy decoding recites of a text's suffix after its prefix.

Sources: Carlini et al., arXiv 2202.07646 (prefix and suffix, greedy); arXiv 2510.24256 (64/48 tokens, strict
and loose).
"""

from collections.abc import Sequence

from rapidfuzz.distance import Levenshtein

from workers.science.metrics.metric import JSONObject, Metric, MetricResult, Need
from workers.science.metrics.splits import Split, Splittable, SplitTally
from workers.science.metrics.tokens import ScoredTokens, TokenIds

LOOSE_SIMILARITY = 0.75


def extraction_metric(split: Split, matched: int, recited: TokenIds | None, suffix: TokenIds) -> MetricResult:
    """Strict and loose recitation of a suffix.

    Args:
        split: the split in use.
        matched: tokens recited before the first mistake.
        recited: the greedy continuation, at most L tokens; None if it was not decoded.
        suffix: the L true tokens.

    Returns:
        `strict` (every token), `similarity` in [0, 1] (one less the Levenshtein distance in tokens over L),
        `loose` (similarity of at least 0.75), `matched_tokens`; the last two lengths say which split was
        used. All are None where the split is not applicable; `similarity` and `loose` also if not decoded.
    """
    similarity = None
    if split.applicable and recited is not None:
        similarity = 1 - Levenshtein.distance(recited.tolist(), suffix.tolist()) / split.suffix_tokens
    return {
        "status": split.status,
        "prefix_tokens": split.prefix_tokens,
        "suffix_tokens": split.suffix_tokens,
        "strict": matched == split.suffix_tokens if split.applicable else None,
        "similarity": similarity,
        "loose": None if similarity is None else similarity >= LOOSE_SIMILARITY,
        "matched_tokens": matched if split.applicable else None,
    }


def _compute(tokens: ScoredTokens, splits: Sequence[Split]) -> MetricResult:
    (split,) = splits
    return extraction_metric(
        split, tokens.matched(split), tokens.continuation, tokens.token_ids[split.suffix]
    )


def _splits(text: Splittable) -> Sequence[Split]:
    return (text.as_asked(),)


class ExtractionSplits:
    """How the texts were split."""

    def __init__(self) -> None:
        self._splits = SplitTally()

    def add(self, found: JSONObject) -> None:
        """Count one text."""
        self._splits.add(found["status"])

    def result(self) -> JSONObject | None:
        """The texts by status; None if no text was looked at."""
        return self._splits.result()


METRIC = Metric(
    name="extraction",
    compute=_compute,
    needs=frozenset({Need.CHOICES, Need.CONTINUATION}),
    splits=_splits,
    summary=ExtractionSplits,
)
