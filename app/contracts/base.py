"""What every contract stands on: strictness, names, metadata."""

import re
from typing import Annotated

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_NESTING = 20
# Begins the tags of unions, so that they can be told from the fields of a location.
TAG_MARK = "tag:"
# The escape itself, not the text of it after an escaped backslash.
NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise PydanticCustomError("nul_character", "A text may not contain the NUL character")
    return value


def _nesting(value: JsonValue) -> int:
    if not isinstance(value, dict | list):
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_nesting, children), default=0)


def _storable_metadata(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if _nesting(value) > MAX_METADATA_NESTING:
        raise PydanticCustomError("metadata_too_deep", "Metadata may be nested up to 20 levels")
    encoded = orjson.dumps(value)
    if len(encoded) > MAX_METADATA_BYTES:
        raise PydanticCustomError("metadata_too_large", "Metadata may not exceed 16 KiB")
    if NUL_IN_JSON.search(encoded):
        raise PydanticCustomError("nul_character", "Metadata may not contain the NUL character")
    return value


CleanStr = Annotated[str, AfterValidator(_without_nul)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_without_nul)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_storable_metadata)]


class Contract(BaseModel):
    """Strict: no coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Described(BaseModel):
    """A result whose fields are described by the strings below them."""

    model_config = ConfigDict(use_attribute_docstrings=True)
