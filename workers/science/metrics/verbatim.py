"""Verbatim recitation after prefixes of fixed lengths (HUBBLE, arXiv 2510.19811, figure 4)."""

from collections.abc import Sequence

from workers.science.metrics.metric import JSONObject, Metric, MetricResult, Need
from workers.science.metrics.splits import NOT_APPLICABLE, Split, SplitStatus, Splittable, SplitTally
from workers.science.metrics.tokens import ScoredTokens
from workers.science.statistics.estimates import ShareCount

VERBATIM_PREFIX_TOKENS = (25, 50, 75, 100)
VERBATIM_SUFFIX_TOKENS = 50


def split_for_verbatim(prefix_tokens: int, n_tokens: int, room: int) -> Split:
    """The 50 tokens after a prefix of fixed length (HUBBLE, figure 4), or as many as there are."""
    suffix_tokens = min(VERBATIM_SUFFIX_TOKENS, min(n_tokens, room) - prefix_tokens)
    if suffix_tokens < 1:
        return NOT_APPLICABLE
    status: SplitStatus = "ok" if suffix_tokens == VERBATIM_SUFFIX_TOKENS else "scaled"
    return Split(status, prefix_tokens, suffix_tokens)


def verbatim_metric(split: Split, matched: int) -> MetricResult:
    """Recitation after one of HUBBLE's prefix lengths."""
    if not split.applicable:
        return {"status": split.status}
    return {
        "status": split.status,
        "suffix_tokens": split.suffix_tokens,
        "strict": matched == split.suffix_tokens,
        "matched_tokens": matched,
    }


def _splits(text: Splittable) -> Sequence[Split]:
    return [split_for_verbatim(length, text.n_tokens, text.room) for length in VERBATIM_PREFIX_TOKENS]


def _compute(tokens: ScoredTokens, splits: Sequence[Split]) -> MetricResult:
    return {
        str(length): verbatim_metric(split, tokens.matched(split))
        for length, split in zip(VERBATIM_PREFIX_TOKENS, splits, strict=True)
    }


class VerbatimSummary:
    """How many texts are recited after each length of prefix."""

    def __init__(self) -> None:
        self._lengths: dict[int, tuple[SplitTally, ShareCount]] = {}

    def add(self, found: JSONObject) -> None:
        """Count one text."""
        for length, recited in found.items():
            splits, strict = self._lengths.setdefault(int(length), (SplitTally(), ShareCount()))
            splits.add(recited["status"])
            strict.add(recited.get("strict"))

    def result(self) -> list[JSONObject] | None:
        """By length of the prefix; None if no text was looked at."""
        return [
            {"prefix_tokens": length, "splits": splits.result(), "strict": strict.result()}
            for length, (splits, strict) in sorted(self._lengths.items())
        ] or None


METRIC = Metric(
    name="verbatim",
    compute=_compute,
    needs=frozenset({Need.CHOICES}),
    splits=_splits,
    summary=VerbatimSummary,
)
