"""What the metrics say that ask a text's own question: those of HUBBLE's tasks."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

AskedStatus = Annotated[
    Literal["ok", "not_applicable", "malformed", "unscorable"],
    Field(
        description="`not_applicable`: the text asks nothing of this metric. `malformed`: its metadata asks "
        "in a form that the metric does not take (docs/hubble.md). `unscorable`: something that would have "
        "to be scored has no tokens, or one that the model has no row for, or does not fit the context. "
        "With each of them the numbers are null."
    ),
]


class AskedCounts(BaseModel):
    """How many texts a metric could ask about, by the status of their results."""

    ok: Annotated[int, Field(description="Texts with numbers.")]
    not_applicable: Annotated[int, Field(description="Texts that ask nothing of this metric.")]
    malformed: Annotated[int, Field(description="Texts that ask in a form that the metric does not take.")]
    unscorable: Annotated[
        int,
        Field(
            description="Texts of which something that would have to be scored has no tokens, or one that "
            "the model has no row for, or does not fit the context."
        ),
    ]
