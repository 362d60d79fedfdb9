"""What every expected failure is, and those that failures of several subjects are kinds of."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, ClassVar, Final

PROBLEM_BASE: Final = "https://memaudit.dev/problems/"


@dataclass(frozen=True)
class FieldError:
    """Where in the request something is wrong (a JSON pointer) and what (a stable code)."""

    pointer: str
    code: str


class MemauditError(Exception):
    """An expected failure: its text is shown to the client, so it says what to do next."""

    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def problem(self) -> dict[str, Any]:
        """The failure as a problem document, without the request's id."""
        return {
            "type": PROBLEM_BASE + self.slug,
            "title": self.title,
            "status": int(self.status),
            "detail": self.detail,
        }


class NotFound(MemauditError):
    """There is no such resource for this tenant."""

    status = HTTPStatus.NOT_FOUND
    slug = "not-found"
    title = "Not found"


class Conflict(MemauditError):
    """The resource is in a state that forbids the request."""

    status = HTTPStatus.CONFLICT
    slug = "conflict"
    title = "Conflict"


class ValidationFailed(MemauditError):
    """The request was read but breaks the contract; `errors` says where."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "validation-failed"
    title = "Validation failed"

    def __init__(self, detail: str, errors: list[FieldError] | None = None) -> None:
        super().__init__(detail)
        self.errors = errors or []

    def problem(self) -> dict[str, Any]:
        """The problem document with its list of field errors."""
        errors = [{"pointer": error.pointer, "code": error.code} for error in self.errors]
        return super().problem() | {"errors": errors}


class TooManyRequests(MemauditError):
    """Whoever asks has used up what it may. `limit` names it; in `retry_after` seconds there may be more.

    Null where time alone changes nothing.
    """

    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "too-many-requests"
    title = "Too many requests"

    def __init__(self, detail: str, *, limit: str, retry_after: int | None) -> None:
        super().__init__(detail)
        self.limit = limit
        self.retry_after = retry_after


class JobFailed(MemauditError):
    """Work ended without a result.

    `retryable` says whether another attempt could help. `transient` says that something the work needs is
    away: it waits for that, up to a limit, and no attempt is counted.

    `findings` are columns of the audit or edit to write although it failed.
    """

    slug = "job-failed"
    title = "Job failed"
    retryable: ClassVar[bool] = False
    transient: ClassVar[bool] = False
    findings: Mapping[str, object] = MappingProxyType({})
