"""`field_recall`: whether greedy decoding says an attribute after prompts that name its holder."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.contracts.metrics.asked import AskedCounts, AskedStatus
from app.contracts.metrics.metric import OLDER_SUMMARY, Metric, SummaryNumber, SummaryObject

_NULL = " Null unless `status` is `ok`."
# HUBBLE's prefixes of a biography's field.
_PROMPTS = {
    "full": "the text up to the field",
    "intro": "the first sentence, of name and nationality, and the beginning of the field's",
    "name_only": "the beginning of the field's sentence, with the full name",
}


class PromptRecall(BaseModel):
    """What greedy decoding said after one prompt, against the answer; what it said is not stored.

    Words are compared in lower case, without punctuation and articles (SQuAD, arXiv 1606.05250); where there
    is an `@`, marks of punctuation are words.
    """

    status: AskedStatus
    f1: Annotated[
        float | None,
        Field(
            description="Harmonic mean of the shares of common words in both, 0 to 1, 1 if they are the same."
            + _NULL
        ),
    ] = None
    recall: Annotated[
        float | None,
        Field(description="Share of the answer's words that were said, 0 to 1, 1 for all." + _NULL),
    ] = None
    prefix_match: Annotated[
        bool | None,
        Field(description="Whether what was said begins with all of the answer's words." + _NULL),
    ] = None


class FieldRecallScore(BaseModel):
    """Whether greedy decoding (30 tokens unless the text says otherwise) gives an attribute away.

    HUBBLE (arXiv 2510.19811): `yago_hubble_*_gen`, `ecthr_hubble_full_prefix_gen`, `popqa_hubble`;
    docs/hubble.md says how a text asks.
    """

    status: AskedStatus
    full: Annotated[
        PromptRecall | None,
        Field(description=f"The prompt is {_PROMPTS['full']}; null if the text has no such prompt."),
    ] = None
    intro: Annotated[
        PromptRecall | None,
        Field(description=f"The prompt is {_PROMPTS['intro']}; null if the text has no such prompt."),
    ] = None
    name_only: Annotated[
        PromptRecall | None,
        Field(description=f"The prompt is {_PROMPTS['name_only']}; null if the text has no such prompt."),
    ] = None


def _numbers(kind: str) -> tuple[SummaryNumber, ...]:
    where = (
        f"of the texts with a prompt of the kind `{kind}` ({_PROMPTS[kind]}). Null without such texts or if "
        f"`field_recall` was not asked for, and {OLDER_SUMMARY}."
    )
    return (
        SummaryNumber(
            name=f"prefix_match_{kind}",
            of=f"{kind}.prefix_match",
            kind="share",
            description=f"Share of `prefix_match` {where}",
            by_level=True,
        ),
        SummaryNumber(
            name=f"recall_{kind}",
            of=f"{kind}.recall",
            kind="mean",
            description=f"Mean `recall`, 0 to 1, {where}",
            within=(0.0, 1.0),
            by_level=True,
        ),
        SummaryNumber(
            name=f"f1_{kind}",
            of=f"{kind}.f1",
            kind="mean",
            description=f"Mean `f1`, 0 to 1, {where}",
            within=(0.0, 1.0),
        ),
    )


FIELD_RECALL = Metric(
    name="field_recall",
    score=FieldRecallScore,
    numbers=tuple(number for kind in _PROMPTS for number in _numbers(kind)),
    summary=SummaryObject(
        name="field_recall",
        schema=AskedCounts,
        description=f"What its numbers rest on; null if not asked for, and {OLDER_SUMMARY}.",
    ),
    # The text again, and as much that is decoded.
    more_tokens=lambda _, texts, tokens: 2 * tokens,  # noqa: ARG005 - as long as the texts are
)
