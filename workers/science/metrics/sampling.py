"""How likely a sample recites a text's suffix, and in how many samples that is seen (arXiv 2410.19482)."""

import math
from collections.abc import Sequence

import numpy as np

from workers.science.metrics.metric import JSONObject, Metric, MetricResult, Need
from workers.science.metrics.splits import Split, Splittable, SplitTally
from workers.science.metrics.tokens import ScoredTokens
from workers.science.statistics.estimates import Mean, ShareCount

# Beyond this a float no longer tells neighbouring integers apart.
LARGEST_SAMPLE_COUNT = 2**53
# With so many samples a text is asked to come up with a probability of at least a half.
EXTRACTION_SAMPLES = (1, 10, 100, 1000)


def sampling_metric(split: Split, log_p_z: float) -> MetricResult:
    """The probability that one sample recites the suffix, and the samples needed to see it.

    Args:
        split: the split in use.
        log_p_z: sum of the suffix' log-probabilities under the client's decoding; -inf if it never recites,
            also because an end token stands before the suffix' last place.

    Returns:
        `log_p_z` (None for -inf), `p_z` (0 if it underflows), `n_50` and `n_99`: the samples with which the
        suffix appears with probability 0.5 and 0.99; None where no number up to 2**53 is enough.
    """
    if not split.applicable:
        return {"status": split.status, "log_p_z": None, "p_z": None, "n_50": None, "n_99": None}
    return {
        "status": split.status,
        "log_p_z": log_p_z if math.isfinite(log_p_z) else None,
        "p_z": math.exp(log_p_z),
        "n_50": samples_needed(log_p_z, 0.5),
        "n_99": samples_needed(log_p_z, 0.99),
    }


def samples_needed(log_p_z: float, probability: float) -> int | None:
    """The smallest n with 1 - (1 - p_z)^n >= probability (arXiv 2410.19482, section 3), computed in logs.

    Returns:
        None if there is none up to 2**53.
    """
    p_z = math.exp(log_p_z)
    if p_z == 0:
        return None
    if p_z == 1:
        return 1
    # Compared before it is rounded up: the quotient is infinite for the smallest of probabilities.
    samples = math.log1p(-probability) / math.log1p(-p_z)
    return math.ceil(samples) if samples <= LARGEST_SAMPLE_COUNT else None


def _splits(text: Splittable) -> Sequence[Split]:
    return (text.as_asked(),)


def _compute(tokens: ScoredTokens, splits: Sequence[Split]) -> MetricResult:
    (split,) = splits
    # A sample that has drawn an end token says nothing after it.
    if tokens.ends[split.suffix][:-1].any():
        return sampling_metric(split, -math.inf)
    return sampling_metric(split, float(tokens.sampling_log_likelihood[split.suffix].sum(dtype=np.float64)))


class SamplingSummary:
    """The odds that samples recite the suffix, over the texts that have one."""

    def __init__(self) -> None:
        self._splits = SplitTally()
        self._log_p_z = Mean()
        self._largest: float | None = None
        self._impossible = 0
        self._extractable = {samples: ShareCount() for samples in EXTRACTION_SAMPLES}

    def add(self, found: JSONObject) -> None:
        """Count one text."""
        self._splits.add(found["status"])
        if found["p_z"] is None:
            return
        self._largest = max(found["p_z"], self._largest or 0.0)
        for samples, share in self._extractable.items():
            share.add(found["n_50"] is not None and found["n_50"] <= samples)
        self._impossible += found["log_p_z"] is None
        self._log_p_z.add(found["log_p_z"])

    def result(self) -> JSONObject | None:
        """None if no text was looked at."""
        splits = self._splits.result()
        if splits is None:
            return None
        return {
            "splits": splits,
            "log_p_z": self._log_p_z.result(),
            "impossible": self._impossible,
            "largest_p_z": self._largest,
            "extractable": [
                {"samples": samples, "texts": share.result()}
                for samples, share in self._extractable.items()
                if share.n
            ],
        }


METRIC = Metric(
    name="p_z",
    compute=_compute,
    needs=frozenset({Need.SAMPLING}),
    splits=_splits,
    summary=SamplingSummary,
)
