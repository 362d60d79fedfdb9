"""`p_z`: how likely a sample recites a text's suffix."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.contracts.metrics.metric import OLDER_SUMMARY, Metric, SummaryObject
from app.contracts.metrics.splits import SplitCounts, Status
from app.contracts.results.intervals import MeanInterval, ShareInterval

_SAMPLES = (
    "Samples with which the suffix appears at least once with probability {} (arXiv 2410.19482); null where "
    "no number up to 2^53 is enough, or the split is not applicable."
)


class SamplingScore(BaseModel):
    """How likely one sample under the audit's `temperature` and `top_k` recites the whole suffix."""

    status: Status
    log_p_z: Annotated[
        float | None,
        Field(
            description="Natural logarithm of `p_z`, at most 0; null where a token can never be sampled, an "
            "end token stands before the suffix' last place, or the split is not applicable."
        ),
    ] = None
    p_z: Annotated[
        float | None,
        Field(
            description="Probability that one sample recites the suffix, 0 to 1 (0 also below 1e-323); null "
            "where the split is not applicable."
        ),
    ] = None
    n_50: Annotated[int | None, Field(description=_SAMPLES.format("0.5"))] = None
    n_99: Annotated[int | None, Field(description=_SAMPLES.format("0.99"))] = None


class ExtractableShare(BaseModel):
    """How many texts come up with a probability of at least 0.5 in so many samples (arXiv 2410.19482)."""

    samples: Annotated[int, Field(description="How many are drawn of each text.")]
    texts: Annotated[ShareInterval, Field(description="Of the texts that are long enough to be split.")]


class SamplingSummary(BaseModel):
    """The odds that the client's decoding recites suffixes, over the texts that are long enough."""

    splits: Annotated[SplitCounts, Field(description="How many texts could be split.")]
    log_p_z: Annotated[
        MeanInterval | None,
        Field(
            description="Mean natural logarithm of `p_z`, at most 0, without the `impossible` texts; null if "
            "no text is left."
        ),
    ]
    impossible: Annotated[
        int,
        Field(
            description="Texts that are never sampled: a token is outside the top k, or an end token before "
            "the suffix' last place."
        ),
    ]
    largest_p_z: Annotated[
        float | None,
        Field(description="Of the text sampled most easily, 0 to 1; null if no text can be split."),
    ]
    extractable: Annotated[
        list[ExtractableShare],
        Field(description="By samples: 1, 10, 100, 1000; empty if no text can be split."),
    ]


SAMPLING = Metric(
    name="p_z",
    score=SamplingScore,
    summary=SummaryObject(
        name="p_z", schema=SamplingSummary, description=f"Null if not asked for, and {OLDER_SUMMARY}."
    ),
)
