"""What a preset is: a published language model or data set that can be asked for by name."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from app.contracts.base import Contract
from app.contracts.sources import HubSource

Collection: TypeAlias = Literal["core", "timing", "interference", "paraphrase", "architecture"]
ParameterCount: TypeAlias = Literal["1b", "8b"]
TokenCount: TypeAlias = Literal["100b", "500b"]


class LanguageModelPreset(Contract):
    """A published language model. Its `source` is what an audit takes as `model`."""

    object: Literal["language_model_preset"] = "language_model_preset"
    name: str
    description: str
    collection: Annotated[Collection, Field(description="The experiment that it belongs to.")]
    parameters: Annotated[
        ParameterCount, Field(description="How many parameters it has, as its family names it.")
    ]
    training_tokens: Annotated[
        TokenCount, Field(description="How many tokens it was trained on, as its family names it.")
    ]
    source: HubSource


class TextSetPreset(Contract):
    """A published data set. Its `name` is what an audit takes as `preset` instead of a text set."""

    object: Literal["text_set_preset"] = "text_set_preset"
    name: str
    description: str
    group: Annotated[str, Field(description="The `group` of its texts, or what their groups begin with.")]
    repo: Annotated[str, Field(description="The data set's repository on the hub.")]
    revision: Annotated[str, Field(description="What a worker pins to a commit when it imports.")] = "main"
    file: Annotated[str, Field(description="The file that is imported, gzipped JSON lines.")]
    columns: Annotated[
        tuple[str, ...],
        Field(description="What is read of each line; `meta.x` is `x` in the JSON object that `meta` holds."),
    ]
    metrics: Annotated[
        tuple[str, ...],
        Field(description="What its own task files measure, beside `nl`, as an audit names it."),
    ] = ()
