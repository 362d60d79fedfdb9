"""`near_verbatim`: how likely a sample comes close to a text's suffix at least."""

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from app.contracts.metrics.decoding import PASSES_PER_DECODED_TOKEN, suffix_tokens
from app.contracts.metrics.metric import OLDER_SUMMARY, Metric, SummaryObject
from app.contracts.metrics.splits import SplitCounts, Status
from app.contracts.results.intervals import MeanInterval

if TYPE_CHECKING:
    from app.contracts.audits import AuditOptions

_NULL = "null where the split is not applicable"


class NearVerbatimScore(BaseModel):
    """A lower bound on the probability that one sample comes close to the suffix (arXiv 2603.24917).

    The sample is drawn with the audit's `temperature` and `top_k` until it has as many tokens as the suffix
    or ends with an end token. It is close if it is at most `distance` edits from the suffix.
    """

    status: Status
    distance: Annotated[
        int | None,
        Field(description=f"Largest Levenshtein distance in tokens that is close, from 0 on; {_NULL}."),
    ] = None
    log_p: Annotated[
        float | None,
        Field(
            description="Natural logarithm of `p`, at most 0 and at least `log_p_z`; null where no close "
            "output was found, or the split is not applicable."
        ),
    ] = None
    p: Annotated[
        float | None,
        Field(
            description="Sum of the probabilities of the close outputs that a beam search found, 0 to 1: the "
            f"true probability is at least that; higher is more memorized; {_NULL}."
        ),
    ] = None
    log_p_z: Annotated[
        float | None,
        Field(
            description="Natural logarithm of the probability of the exact suffix alone, at most 0; null "
            "where it is never drawn (a token outside the top k, or after an end token), or the split is "
            "not applicable."
        ),
    ] = None


class NearVerbatimSummary(BaseModel):
    """How likely samples come close to their suffixes, over the texts that are long enough."""

    splits: Annotated[SplitCounts, Field(description="How many texts could be split.")]
    p: Annotated[
        MeanInterval | None,
        Field(description="Mean of the lower bounds, 0 to 1; null if no text is long enough."),
    ]


def _beam_search(options: "AuditOptions", texts: int, tokens: float) -> float:
    """Every beam of every suffix, decoded to its end."""
    from app.contracts.audits import NearVerbatimOptions  # noqa: PLC0415 - which knows the metrics

    beams = (options.near_verbatim or NearVerbatimOptions()).beams
    return PASSES_PER_DECODED_TOKEN * beams * suffix_tokens(options, texts, tokens)


NEAR_VERBATIM = Metric(
    name="near_verbatim",
    score=NearVerbatimScore,
    summary=SummaryObject(
        name="near_verbatim",
        schema=NearVerbatimSummary,
        description=f"Null if not asked for, and {OLDER_SUMMARY}.",
    ),
    more_tokens=_beam_search,
    sized_by=("prefix_tokens", "suffix_tokens", "near_verbatim"),
)
