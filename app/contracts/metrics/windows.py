"""`windows`: every passage of a document that the model recalls."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.contracts.metrics.metric import OLDER_SUMMARY, Metric, SummaryObject
from app.contracts.results.intervals import MeanInterval

_NULL = "null where the text is too short"


class ExtractablePart(BaseModel):
    """How much of a document one sample recites with a probability of at least `p`."""

    p: Annotated[float, Field(description="Least `p_z` of a window that counts, 0 to 1.")]
    share: Annotated[
        float,
        Field(
            description="Characters in the suffix of a window with `p_z` of at least `p`, of all characters, "
            "0 to 1."
        ),
    ]


class RecalledSpan(BaseModel):
    """A passage that the model recalls, in characters of the submitted text."""

    start: Annotated[
        int,
        Field(
            description="First character: where the passage most likely begins, at most 64 tokens before "
            "what is recited. These are not recited, as nothing before them foretells them."
        ),
    ]
    end: Annotated[int, Field(description="Past the last character: the end of the last recited token.")]
    tokens: Annotated[int, Field(description="Tokens from `start` to `end`.")]
    recited_start: Annotated[
        int,
        Field(description="First character of the tokens that greedy decoding recites in a row."),
    ]
    recited_end: Annotated[int, Field(description="Past the last character of these.")]
    recited_tokens: Annotated[int, Field(description="At least `options.windows.suffix_tokens`.")]
    after: Annotated[
        Literal["document", "separator"],
        Field(
            description="What the model saw before the recited tokens. `document`: the text before them. "
            "`separator`: the prefix token and the passage from `start` on, as if a document began there."
        ),
    ]
    log_p: Annotated[
        float,
        Field(
            description="Natural logarithm of the probability that one sample draws the recited tokens after "
            "what the model saw before them, at most 0."
        ),
    ]


class CoveragePoint(BaseModel):
    """A window, or several next to each other in a long document: the largest numbers among them."""

    start: Annotated[int, Field(description="First character of the first suffix.")]
    p_z: Annotated[float, Field(description="That one sample recites the suffix, 0 to 1, four digits.")]
    matched_tokens: Annotated[int, Field(description="Tokens recited before the suffix' first mistake.")]


class WindowsScore(BaseModel):
    """Overlapping windows over a whole text (arXiv 2505.12546).

    Each window is a prefix and a suffix; one begins every `options.windows.stride` tokens. All come from one
    pass in which every token sees at least `least_context` tokens before it.
    """

    status: Annotated[
        Literal["ok", "not_applicable"],
        Field(
            description="`not_applicable`: the text is shorter than a window, or the model's context too "
            "short for the prefix; the numbers are then null."
        ),
    ]
    windows: Annotated[int | None, Field(description=f"How many; {_NULL}.")] = None
    least_context: Annotated[
        int | None,
        Field(
            description="Tokens of the document that every token of a window sees before it at least. All of "
            f"the window before it, where the context has room for that, else at least the prefix' "
            f"length; {_NULL}."
        ),
    ] = None
    strict: Annotated[
        float | None,
        Field(description=f"Share of windows whose whole suffix greedy decoding recites, 0 to 1; {_NULL}."),
    ] = None
    extractable: Annotated[
        list[ExtractablePart] | None, Field(description=f"By p: 0.001, 0.01, 0.1 and 0.5; {_NULL}.")
    ] = None
    longest_tokens: Annotated[
        int | None, Field(description=f"Tokens of the longest span; 0 if there is none; {_NULL}.")
    ] = None
    longest_characters: Annotated[int | None, Field(description=f"Its characters; {_NULL}.")] = None
    span_count: Annotated[int | None, Field(description=f"Spans found; {_NULL}.")] = None
    spans: Annotated[
        list[RecalledSpan] | None,
        Field(description=f"The 100 longest, in order, none overlapping; {_NULL}."),
    ] = None
    coverage: Annotated[
        list[CoveragePoint] | None, Field(description=f"For plotting: at most 500 points in order; {_NULL}.")
    ] = None


class ExtractableMean(BaseModel):
    """How much of the documents one sample recites with a probability of at least `p`."""

    p: Annotated[float, Field(description="Least `p_z` of a window that counts, 0 to 1.")]
    share: Annotated[MeanInterval, Field(description="Mean over the documents, 0 to 1.")]


class WindowsSummary(BaseModel):
    """What is recalled of documents, over those that are long enough."""

    documents: Annotated[int, Field(description="Texts with a window at least.")]
    not_applicable: Annotated[int, Field(description="Texts without a window.")]
    windows: Annotated[int, Field(description="Of all documents.")]
    strict: Annotated[
        MeanInterval | None,
        Field(description="Mean share of a document's strict windows, 0 to 1; null without documents."),
    ]
    extractable: Annotated[list[ExtractableMean], Field(description="By p; empty without documents.")]
    span_count: Annotated[int, Field(description="Of all documents.")]
    longest_tokens: Annotated[int, Field(description="Tokens of the longest span; 0 if there is none.")]


WINDOWS = Metric(
    name="windows",
    score=WindowsScore,
    summary=SummaryObject(
        name="windows",
        schema=WindowsSummary,
        description=f"Null if not asked for, and {OLDER_SUMMARY}.",
    ),
    # One more pass; that it overlaps, and that spans are looked for, is left out.
    more_tokens=lambda _, texts, tokens: tokens,  # noqa: ARG005 - the texts are long
    sized_by=("windows",),
)
