"""Public ids: a prefix that names the resource and a UUIDv7, e.g. `aud_0192f3c4…` (32 hex digits)."""

from enum import StrEnum
from uuid import UUID

from uuid_utils.compat import uuid7


class Prefix(StrEnum):
    """What a public id names."""

    LANGUAGE_MODEL = "mdl"
    TEXT_SET = "txs"
    AUDIT = "aud"
    STUDY = "std"
    EDIT = "edt"
    ARTIFACT = "art"
    POLICY = "pol"
    GATE = "gat"
    MODEL_LINE = "lin"
    MODEL_VERSION = "ver"
    EVENT = "evt"
    TENANT = "tnt"
    API_KEY = "key"
    TRAIL_ENTRY = "trl"
    WEBHOOK = "whk"
    DELIVERY = "dlv"


def new_id() -> UUID:
    """A fresh UUIDv7: ids sort by the time they were made."""
    return uuid7()


def format_id(prefix: Prefix, value: UUID) -> str:
    """The public form of an id."""
    return f"{prefix}_{value.hex}"


def parse_id(prefix: Prefix, text: str) -> UUID | None:
    """Read a public id; None when it is not one of this kind."""
    head, separator, digits = text.partition("_")
    if head != prefix or not separator or len(digits) != 32:  # noqa: PLR2004 - a UUID has 32 hex digits
        return None
    try:
        return UUID(hex=digits)
    except ValueError:
        return None
