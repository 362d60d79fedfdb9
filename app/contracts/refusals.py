"""What pydantic finds wrong, as pointers and stable codes: never the submitted value."""

from collections.abc import Sequence
from typing import Any, Final

from app.contracts.base import TAG_MARK
from app.errors import FieldError, ValidationFailed

MAX_FIELD_ERRORS: Final = 100


def validation_problem(errors: Sequence[Any], *, skip: int = 1) -> ValidationFailed:
    """Pydantic's errors as pointers and codes, up to a number of them.

    The first `skip` parts of each location are dropped.
    """
    fields = [
        FieldError(pointer=_pointer(error, skip), code=str(error["type"]))
        for error in errors[:MAX_FIELD_ERRORS]
    ]
    return ValidationFailed("The request breaks the contract; `errors` says where.", fields)


def _pointer(error: Any, skip: int) -> str:
    """Where the error is, without names that the client made up and without the tags of unions."""
    location = [part for part in error["loc"][skip:] if not str(part).startswith(TAG_MARK)]
    if error["type"] == "extra_forbidden":
        location = location[:-1]
    if "metadata" in location:
        location = location[: location.index("metadata") + 1]
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in location)
    return "".join(f"/{part}" for part in parts)
