"""`multiple_choice`: which of several answers the model finds likeliest."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.contracts.metrics.asked import AskedCounts, AskedStatus
from app.contracts.metrics.metric import OLDER_SUMMARY, Metric, SummaryNumber, SummaryObject

_NULL = " Null unless `status` is `ok`."


class MultipleChoiceScore(BaseModel):
    """Which of a text's `choices` is likeliest after its question (lm-evaluation-harness, `multiple_choice`).

    HUBBLE's (arXiv 2510.19811) tasks `mmlu_hubble`, `hellaswag_hubble`, `piqa_hubble`, `winogrande_hubble_*`,
    `munch_hubble`, `yago_hubble_*_suffix` and `personachat_hubble_*` come down to it; docs/hubble.md says how
    a text asks its question.
    """

    status: AskedStatus
    chosen: Annotated[
        int | None,
        Field(
            description="Index of the choice with the greatest log-likelihood, of equals the first." + _NULL
        ),
    ] = None
    correct: Annotated[
        bool | None, Field(description="Whether that is `answer` (harness: `acc`)." + _NULL)
    ] = None
    chosen_normalized: Annotated[
        int | None,
        Field(
            description="As `chosen`, of log-likelihoods divided by the number of characters of the choice."
            + _NULL
        ),
    ] = None
    correct_normalized: Annotated[
        bool | None, Field(description="Whether that is `answer` (harness: `acc_norm`)." + _NULL)
    ] = None
    rank: Annotated[
        int | None,
        Field(
            description="Place of `answer` among the choices by log-likelihood: 1 is the likeliest, at most "
            "the number of choices." + _NULL
        ),
    ] = None
    margin: Annotated[
        float | None,
        Field(
            description="Log-likelihood of `answer` less that of the likeliest other choice, in nats; "
            "positive where `answer` is the likeliest. Null also without another choice." + _NULL
        ),
    ] = None
    log_likelihoods: Annotated[
        list[float] | None,
        Field(
            description="Of each choice, in order: the sum over its tokens of log p(token | the question and "
            "the tokens before it), in nats, at most 0." + _NULL
        ),
    ] = None


MULTIPLE_CHOICE = Metric(
    name="multiple_choice",
    score=MultipleChoiceScore,
    numbers=(
        SummaryNumber(
            name="accuracy",
            of="correct",
            kind="share",
            description="Of the texts with a question that could be asked, those whose `answer` is the "
            "likeliest choice (harness: `acc`); a model that knows nothing scores one over the number of "
            "choices. Null without such texts or if `multiple_choice` was not asked for, and "
            f"{OLDER_SUMMARY}.",
            by_level=True,
        ),
        SummaryNumber(
            name="accuracy_normalized",
            of="correct_normalized",
            kind="share",
            description="As `accuracy`, by log-likelihood per character of the choice (harness: `acc_norm`).",
            by_level=True,
        ),
    ),
    summary=SummaryObject(
        name="multiple_choice",
        schema=AskedCounts,
        description=f"What `accuracy` rests on; null if not asked for, and {OLDER_SUMMARY}.",
    ),
    # The text again with each of four choices, as most sets have them.
    more_tokens=lambda _, texts, tokens: 4 * tokens,  # noqa: ARG005 - as long as the texts are
)
