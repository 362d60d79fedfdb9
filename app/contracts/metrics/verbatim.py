"""`verbatim`: what greedy decoding recites after prefixes of fixed lengths."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.contracts.metrics.metric import OLDER_SUMMARY, Metric, SummaryObject
from app.contracts.metrics.splits import SUFFIX_TOKENS, MatchedTokens, SplitCounts, Status, Strict
from app.contracts.results.intervals import ShareInterval


class VerbatimScore(BaseModel):
    """What greedy decoding recites of the 50 tokens after a prefix of fixed length (arXiv 2510.19811)."""

    status: Status
    suffix_tokens: Annotated[int | None, Field(description=SUFFIX_TOKENS)] = None
    strict: Strict = None
    matched_tokens: MatchedTokens = None


class VerbatimSummary(BaseModel):
    """How many texts are recited after a prefix of one length: the 50 tokens after it, or all there are."""

    prefix_tokens: Annotated[int, Field(description="Tokens of the prefix.")]
    splits: Annotated[SplitCounts, Field(description="How many texts could be split.")]
    strict: Annotated[
        ShareInterval | None,
        Field(description="Of the texts longer than the prefix; null if there is none."),
    ]


VERBATIM = Metric(
    name="verbatim",
    score=dict[str, VerbatimScore],
    description="By the prefix' length in tokens: 25, 50, 75 and 100.",
    summary=SummaryObject(
        name="verbatim",
        schema=list[VerbatimSummary],
        description=f"By length of the prefix; null if not asked for, and {OLDER_SUMMARY}.",
    ),
)
