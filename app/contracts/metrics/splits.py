"""What several metrics say of how a text was split into prefix and suffix."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

SplitStatus = Literal["ok", "scaled", "not_applicable"]
Status = Annotated[
    SplitStatus,
    Field(
        description="`ok`: the split of the text that was asked for. `scaled`: a smaller one, as the text or "
        "the context is too short for it. `not_applicable`: no token would be left to recite; the numbers "
        "are then null."
    ),
]
SUFFIX_TOKENS = "Tokens to recite; 0 or null where the split is not applicable."
Strict = Annotated[
    bool | None,
    Field(description="Whether every token was recited; null where the split is not applicable."),
]
MatchedTokens = Annotated[
    int | None,
    Field(
        description="Tokens recited before the first mistake, 0 to `suffix_tokens`; null where the split is "
        "not applicable."
    ),
]


class SplitCounts(BaseModel):
    """How many texts could be split into prefix and suffix.

    `ok` as it was asked for, `scaled` with fewer tokens, `not_applicable` not at all: no token would be left
    to recite. Texts of the first two kinds are counted together wherever recitation is.
    """

    ok: Annotated[int, Field(description="Texts split as it was asked for.")]
    scaled: Annotated[int, Field(description="Texts split into fewer tokens than asked for.")]
    not_applicable: Annotated[int, Field(description="Texts too short to be split.")]
