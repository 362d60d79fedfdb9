"""Which matrices of a language model an edit changes."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from app.contracts.base import TAG_MARK

# What a matrix is to its layer; `workers.science` finds them by the same names.
Role = Literal["gate", "up", "down", "q", "k", "v", "qkv", "o"]
Layers = Annotated[list[Annotated[int, Field(ge=0, le=10_000)]], Field(min_length=1, max_length=1000)]
Roles = Annotated[list[Role], Field(min_length=1, max_length=8)]


def _layers_tag(value: Any) -> str:
    return TAG_MARK + ("name" if isinstance(value, str) else "list")


LayerChoice = Annotated[
    Annotated[Layers, Tag("tag:list")] | Annotated[Literal["auto"], Tag("tag:name")],
    Discriminator(_layers_tag),
]
