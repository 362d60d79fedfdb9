"""What an HTTP answer says: a document, or which error."""

import json
from typing import Any, Final, TypeVar

import httpx
from pydantic import ValidationError

from memaudit.base import Answer
from memaudit.errors import REFUSALS, AnswerNotUnderstood, RequestRefused, ServiceUnreachable
from memaudit.types import Problem

A = TypeVar("A", bound=Answer)

# Whoever is away now and may be back soon: the service, its database, or what stands before it.
_AWAY: Final = frozenset({502, 503, 504})


def document(response: httpx.Response, *members: str) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        AnswerNotUnderstood: it is none, or lacks a member.
    """
    try:
        value = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        value = None
    if not isinstance(value, dict) or not value.keys() >= set(members):
        raise AnswerNotUnderstood(f"{response.url} answers, but not as a memaudit service does")
    return value


def read_as(kind: type[A], value: Any) -> A:
    """A document as one of `memaudit.types`.

    Raises:
        AnswerNotUnderstood: something is missing that this client cannot do without.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        places = ", ".join(sorted({".".join(map(str, each["loc"])) for each in error.errors()})[:5])
        raise AnswerNotUnderstood(
            f"the answer is no {kind.__name__} that this client knows: {places}"
        ) from None


def unreachable(url: str, error: httpx.RequestError) -> ServiceUnreachable:
    """The error for a request that got no answer, or not all of it."""
    sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    return ServiceUnreachable(f"no answer from {url} ({type(error).__name__})", sent=sent)


def failure(response: httpx.Response) -> ServiceUnreachable | RequestRefused:
    """The error for an answer that is no success and whose body has been read."""
    problem = _problem(response)
    words = _plain_words(problem) if problem else f"the service answered {response.status_code}"
    after = _retry_after(response)
    if response.status_code in _AWAY:
        return ServiceUnreachable(words, sent=True, retry_after=after)
    kind = REFUSALS.get(response.status_code, RequestRefused)
    return kind(words, status=response.status_code, problem=problem, retry_after=after)


def _problem(response: httpx.Response) -> Problem | None:
    try:
        return Problem.model_validate(response.json())
    except (ValueError, UnicodeDecodeError):
        return None


def _plain_words(problem: Problem) -> str:
    """What a problem document says, and where."""
    places = [f"\n  {entry.pointer or '/'}: {entry.code}" for entry in problem.errors or []]
    return f"{problem.title}: {problem.detail}" + "".join(places)


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):  # a date is as good as nothing
        return None
