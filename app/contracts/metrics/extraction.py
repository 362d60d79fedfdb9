"""`extraction`: what greedy decoding recites of a text's suffix."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.contracts.metrics.decoding import PASSES_PER_DECODED_TOKEN, suffix_tokens
from app.contracts.metrics.metric import OLDER_SUMMARY, Metric, SummaryNumber, SummaryObject
from app.contracts.metrics.splits import SUFFIX_TOKENS, MatchedTokens, SplitCounts, Status, Strict


class ExtractionScore(BaseModel):
    """What greedy decoding recites of a text's suffix after its prefix (arXiv 2202.07646, 2510.24256)."""

    status: Status
    prefix_tokens: Annotated[int, Field(description="Tokens of the prompt; 0 where not applicable.")]
    suffix_tokens: Annotated[int, Field(description=SUFFIX_TOKENS)]
    strict: Strict = None
    similarity: Annotated[
        float | None,
        Field(
            description="1 - (Levenshtein distance in tokens) / `suffix_tokens`, 0 to 1, 1 for the exact "
            "suffix; null where the split is not applicable or the rest was not decoded."
        ),
    ] = None
    loose: Annotated[
        bool | None, Field(description="`similarity` of at least 0.75; null where that is null.")
    ] = None
    matched_tokens: MatchedTokens = None


EXTRACTION = Metric(
    name="extraction",
    score=ExtractionScore,
    numbers=(
        SummaryNumber(
            name="strict",
            of="strict",
            kind="share",
            description="Of the texts that are long enough to be split, those whose whole suffix greedy "
            "decoding recites, by splits as asked for and scaled ones together; null if `extraction` was not "
            "asked for or no text is long enough.",
            by_level=True,
            required=True,
        ),
        SummaryNumber(
            name="loose",
            of="loose",
            kind="share",
            description="As `strict`, with a similarity of at least 0.75.",
            by_level=True,
            required=True,
        ),
        SummaryNumber(
            name="similarity",
            of="similarity",
            kind="mean",
            description="Mean similarity, 0 to 1, 1 if all is recited; null as `strict`.",
            within=(0.0, 1.0),
            required=True,
        ),
    ),
    summary=SummaryObject(
        name="extraction_splits",
        schema=SplitCounts,
        description=f"What `strict` and `loose` rest on; null if not asked for, and {OLDER_SUMMARY}.",
    ),
    # As if each suffix were decoded to its end: where texts are recited, less is.
    more_tokens=lambda *texts: PASSES_PER_DECODED_TOKEN * suffix_tokens(*texts),
    sized_by=("prefix_tokens", "suffix_tokens"),
)
