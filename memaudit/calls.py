"""Requests as data, and what makes one worth repeating."""

import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from memaudit.errors import Conflict, RequestRefused, ServiceUnreachable, TooManyRequests

Method = Literal["GET", "POST", "PATCH", "DELETE"]
OnSent = Callable[[int], object]

# The problem of a request whose like, with the same key, is still being answered.
_IN_FLIGHT: Final = "/idempotency-in-flight"
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


@dataclass(frozen=True)
class Call:
    """One request.

    Attributes:
        method: of HTTP.
        path: from the root of the service.
        params: of the query; those that are None are left out, an object is written as `name[key]=value`.
        json: the body, if it is JSON.
        content: a body of another kind, as the face that sends it takes it.
        headers: beside those of the connection.
        replayable: whether the body can be sent again.
        on_sent: called, while a file is sent, with how many of its bytes have been.
    """

    method: Method
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    replayable: bool = True
    on_sent: OnSent | None = None

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice has the effect of sending it once."""
        return self.method == "GET" or "Idempotency-Key" in self.headers

    def query(self) -> list[tuple[str, str]]:
        """The parameters as they are written."""
        written: list[tuple[str, str]] = []
        for name, value in self.params.items():
            if isinstance(value, Mapping):
                written += [(f"{name}[{key}]", str(each)) for key, each in value.items()]
            elif value is not None:
                written.append((name, str(value).lower() if isinstance(value, bool) else str(value)))
        return written

    def may_repeat_after(self, error: BaseException) -> bool:
        """Whether it may be sent again: the failure passes, and the effect cannot come twice."""
        if not self.replayable:
            return False
        if isinstance(error, ServiceUnreachable):
            return self.idempotent or not error.sent
        if isinstance(error, Conflict):
            return error.problem is not None and error.problem.type.endswith(_IN_FLIGHT)
        return isinstance(error, TooManyRequests) and error.retry_after is not None


def work_headers(idempotency_key: str | None) -> dict[str, str]:
    """The header by which a repeated request creates its work once."""
    return {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}


def pause(attempt: int, error: BaseException | None) -> float:
    """Seconds before the next attempt: what the service asks for, or a growing, random time."""
    growing = min(_FIRST_PAUSE * 2.0 ** (attempt - 1), _LONGEST_PAUSE)
    asked = error.retry_after if isinstance(error, ServiceUnreachable | RequestRefused) else None
    return (asked or 0.0) + growing * random.uniform(0.5, 1)  # noqa: S311 - not a secret
