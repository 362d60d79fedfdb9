"""`membership`: how much a text stands out as one that the language model was trained on."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.contracts.metrics.metric import OLDER_SUMMARY, Metric, SummaryNumber, SummaryObject
from app.contracts.results.ranking import Separation


class MembershipScore(BaseModel):
    """Scores of membership, each the higher the more likely the text was trained on."""

    loss: Annotated[
        float,
        Field(
            description="Mean log-likelihood per token, in nats, at most 0; equals `nl` (arXiv 1709.01604)."
        ),
    ]
    zlib: Annotated[
        float,
        Field(
            description="`loss` over the bytes of the text as zlib compresses it, in nats per token and "
            "byte, at most 0 (arXiv 2012.07805, with the sign turned)."
        ),
    ]
    min_k: Annotated[
        float,
        Field(
            description="Mean log-likelihood, in nats, at most 0, of the share `options.min_k` of tokens "
            "that have the lowest, one at least (Min-K%, arXiv 2310.16789)."
        ),
    ]
    min_k_pp: Annotated[
        float,
        Field(
            description="As `min_k`, of (log p - mean) / deviation: how many standard deviations of the "
            "vocabulary's log-probabilities a token's own lies above their mean; without a unit, of either "
            "sign (Min-K%++, arXiv 2404.02936; variances below 1e-6 are taken for that)."
        ),
    ]
    reference: Annotated[
        float | None,
        Field(
            description="`loss` less that under the reference model, in nats per token, of either sign "
            "(arXiv 2012.07805); null without a `reference_model`."
        ),
    ] = None
    recall: Annotated[
        float | None,
        Field(
            description="Log-likelihood after the leading texts of `control_text_set` over that without "
            "them, on the same tokens, without a unit, at least 0 (ReCaLL, arXiv 2406.15968); null without a "
            "`control_text_set`, if none of its texts fits, if this text is itself among those that stand "
            "before each, or where the model is certain of every token."
        ),
    ] = None


_SEPARATION = "How well it tells members from others; null unless both are known and have it."


class MembershipSample(BaseModel):
    """Texts that were drawn at random among those of known membership, each with the same probability."""

    n_members: Annotated[int, Field(description="Members among them.")]
    n_others: Annotated[int, Field(description="Others among them.")]
    seed: Annotated[int, Field(description="Of the draw: the same scores give the same sample.")]


class MembershipSummary(BaseModel):
    """How well each score tells the texts that are known to be members from those known not to be."""

    n_members: Annotated[int, Field(description="Texts with `member` true.")]
    n_others: Annotated[int, Field(description="Texts with `member` false.")]
    sample: Annotated[
        MembershipSample | None,
        Field(
            description="The texts that were ranked, where there are more than 100,000 of a kind; null where "
            "all were."
        ),
    ] = None
    loss: Annotated[Separation | None, Field(description=_SEPARATION)] = None
    zlib: Annotated[Separation | None, Field(description=_SEPARATION)] = None
    min_k: Annotated[Separation | None, Field(description=_SEPARATION)] = None
    min_k_pp: Annotated[Separation | None, Field(description=_SEPARATION)] = None
    reference: Annotated[Separation | None, Field(description=_SEPARATION)] = None
    recall: Annotated[Separation | None, Field(description=_SEPARATION)] = None


_MEAN = f"Mean `membership.{{}}`, in its unit; null if `membership` was not asked for, and {OLDER_SUMMARY}."

MEMBERSHIP = Metric(
    name="membership",
    score=MembershipScore,
    numbers=tuple(
        SummaryNumber(name=name, of=name, kind="mean", description=_MEAN.format(name), by_level=True)
        for name in ("zlib", "min_k", "min_k_pp")
    ),
    summary=SummaryObject(
        name="membership",
        schema=MembershipSummary,
        description=f"Null if not asked for, if no text says whether it is a `member`, and {OLDER_SUMMARY}.",
    ),
)
