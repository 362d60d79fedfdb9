"""All presets by name."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.contracts import hubble
from app.contracts.presets import LanguageModelPreset, TextSetPreset

TEXT_SET_PRESETS: Final[Mapping[str, TextSetPreset]] = MappingProxyType(
    {preset.name: preset for preset in hubble.TEXT_SETS}
)
LANGUAGE_MODEL_PRESETS: Final[Mapping[str, LanguageModelPreset]] = MappingProxyType(
    {preset.name: preset for preset in hubble.LANGUAGE_MODELS}
)


def _known(name: str) -> str:
    if name not in TEXT_SET_PRESETS:
        raise PydanticCustomError("unknown_preset", "GET /v1/presets lists the presets that there are")
    return name


# The name of a data set that a worker can import.
PresetName = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": list(TEXT_SET_PRESETS)})
]
