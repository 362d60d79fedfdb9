"""Texts and what is known about them."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.contracts.base import CleanStr, Contract, Metadata, Name

TextId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@+=~-]{1,200}$")]


class TextRecord(Contract):
    """One text and what is known about it.

    Either `text`, or `prefix` and `suffix`, whose concatenation is the text.
    """

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["text"]}, {"required": ["prefix", "suffix"]}]}
    )

    id: TextId | None = None
    text: CleanStr | None = None
    prefix: CleanStr | None = None
    suffix: CleanStr | None = None
    duplicates: Annotated[int, Field(ge=0, le=2**53)] | None = None
    group: Name | None = None
    member: bool | None = None
    choices: Annotated[list[CleanStr], Field(min_length=1, max_length=100)] | None = None
    answer: Annotated[int, Field(ge=0)] | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.prefix is None) != (self.suffix is None):
            raise PydanticCustomError("incomplete_split", "Give both prefix and suffix, or neither")
        if self.text is None and self.prefix is None:
            raise PydanticCustomError("missing_text", "Give text, or prefix and suffix")
        if self.text is not None and self.prefix is not None and self.text != self.full_text:
            raise PydanticCustomError("split_mismatch", "The text must be prefix + suffix")
        if self.answer is not None and self.answer >= len(self.choices or ()):
            raise PydanticCustomError("answer_out_of_range", "The answer must be an index into choices")
        return self

    @property
    def full_text(self) -> str:
        """The text itself."""
        if self.prefix is not None and self.suffix is not None:
            return self.prefix + self.suffix
        assert self.text is not None
        return self.text


TextSetId = Annotated[str, Field(max_length=100)]


class TextSetRole(StrEnum):
    """What a text set is to an edit."""

    CALIBRATION = "calibration"  # factors are collected on it; BalancedSubnet retains it
    RETAIN = "retain"  # factors of it are mixed in: what must survive
    FORGET = "forget"  # shown to the method: what it should forget, what a search aims at
    MEMORIZED = "memorized"  # recited before, measured before and after
    UNSEEN = "unseen"  # recited before, never shown to the method
    CONTROL = "control"  # never inserted into the training data
    CLEAN = "clean"  # perplexity and rankings are measured on it
    ITEMS = "items"  # questions with choices or with an exact answer
