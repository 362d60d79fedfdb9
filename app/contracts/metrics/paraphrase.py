"""`paraphrase`: whether the model prefers the inserted wording to others."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.contracts.metrics.asked import AskedCounts, AskedStatus
from app.contracts.metrics.metric import OLDER_SUMMARY, Metric, SummaryNumber, SummaryObject

_NULL = " Null unless `status` is `ok`."


class ParaphraseScore(BaseModel):
    """Whether a text is likelier than its paraphrases.

    HUBBLE's (arXiv 2510.19811) tasks `mrpc_hubble` and `paws_hubble`. Wordings are compared as wholes, by the
    sum of the log-likelihoods of their tokens after the prefix token.
    """

    status: AskedStatus
    preferred: Annotated[
        bool | None,
        Field(description="Whether the text is likelier than each paraphrase (harness: `acc`)." + _NULL),
    ] = None
    margin: Annotated[
        float | None,
        Field(
            description="Log-likelihood of the text less that of its likeliest paraphrase, in nats; positive "
            "where the text is preferred." + _NULL
        ),
    ] = None
    preferred_normalized: Annotated[
        bool | None,
        Field(description="As `preferred`, by log-likelihood per character (harness: `acc_norm`)." + _NULL),
    ] = None
    margin_normalized: Annotated[
        float | None, Field(description="As `margin`, in nats per character." + _NULL)
    ] = None


PARAPHRASE = Metric(
    name="paraphrase",
    score=ParaphraseScore,
    numbers=(
        SummaryNumber(
            name="paraphrase_preferred",
            of="preferred",
            kind="share",
            description="Of the texts with paraphrases, those likelier than each of these; a model that does "
            "not know the wordings scores about one over their number. Null without such texts or if "
            f"`paraphrase` was not asked for, and {OLDER_SUMMARY}.",
            by_level=True,
        ),
        SummaryNumber(
            name="paraphrase_preferred_normalized",
            of="preferred_normalized",
            kind="share",
            description="As `paraphrase_preferred`, by log-likelihood per character.",
            by_level=True,
        ),
        SummaryNumber(
            name="paraphrase_margin",
            of="margin_normalized",
            kind="mean",
            description="Mean `margin_normalized`, in nats per character; positive if inserted wordings are "
            "preferred; null as `paraphrase_preferred`.",
            by_level=True,
        ),
    ),
    summary=SummaryObject(
        name="paraphrase",
        schema=AskedCounts,
        description=f"What `paraphrase_preferred` rests on; null if not asked for, and {OLDER_SUMMARY}.",
    ),
    # Both wordings.
    more_tokens=lambda _, texts, tokens: 2 * tokens,  # noqa: ARG005 - as long as the texts are
)
