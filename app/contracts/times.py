"""Times as requests give them."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

# RFC 3339: with a zone, so that it is one moment.
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _read_time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    wrong = PydanticCustomError("date_time", "Give a date and a time with a zone, as RFC 3339 writes them")
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise wrong
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong from None


Time = Annotated[
    datetime, BeforeValidator(_read_time), WithJsonSchema({"type": "string", "format": "date-time"})
]
