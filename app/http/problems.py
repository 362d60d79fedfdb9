"""Problem documents (RFC 9457) for every failure. No handler ever echoes what was submitted."""

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from app.contracts.refusals import validation_problem
from app.errors import (
    PROBLEM_BASE,
    BadRequest,
    BodyTooLarge,
    IdempotencyKeyMissing,
    MemauditError,
    NotFound,
    Overloaded,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)
from app.store.core.away import database_is_away

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
DATABASE_RETRY_SECONDS = 2
OVERLOADED_RETRY_SECONDS = 1
IDEMPOTENCY_HEADER = ("header", "Idempotency-Key")


class FieldProblem(BaseModel):
    """Where something is wrong, as a JSON pointer, and what: never the submitted value."""

    pointer: str
    code: str


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str | None = None
    errors: list[FieldProblem] | None = None


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the problem statuses of a route in OpenAPI."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": "Problem", "content": {MEDIA_TYPE: schema}} for status in sorted(statuses)
    }


def answer_problem(
    request: Request, error: MemauditError, headers: dict[str, str] | None = None
) -> JSONResponse:
    """The response for an expected failure."""
    body = error.problem() | {"request_id": getattr(request.state, "request_id", None)}
    return JSONResponse(body, status_code=int(error.status), headers=headers, media_type=MEDIA_TYPE)


async def _on_expected(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, MemauditError)
    headers = None
    if isinstance(error, Unauthorized):
        headers = {"WWW-Authenticate": "Bearer"}
    elif isinstance(error, ServiceUnavailable):
        headers = {"Retry-After": str(DATABASE_RETRY_SECONDS)}
    elif isinstance(error, TooManyRequests):
        request.app.state.metrics.refused(error.limit)
        if error.retry_after is not None:
            headers = {"Retry-After": str(error.retry_after)}
    elif isinstance(error, Overloaded):
        headers = {"Retry-After": str(OVERLOADED_RETRY_SECONDS)}
    return answer_problem(request, error, headers)


async def _on_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if any(entry["type"] == "json_invalid" for entry in errors):
        return answer_problem(request, BadRequest.no_strict_json())
    if any(entry["type"] == "missing" and entry["loc"] == IDEMPOTENCY_HEADER for entry in errors):
        return answer_problem(request, IdempotencyKeyMissing())
    return answer_problem(request, validation_problem(errors))


_HTTP_PROBLEMS: dict[int, tuple[type[MemauditError], str]] = {
    400: (BadRequest, "The request cannot be read."),
    404: (NotFound, "There is no such route."),
    413: (BodyTooLarge, "The request body is larger than this route accepts."),
}


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code in _HTTP_PROBLEMS:
        problem, detail = _HTTP_PROBLEMS[error.status_code]
        return answer_problem(request, problem(detail), dict(error.headers or {}))
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers |= _allow(request)
    body = {
        "type": f"{PROBLEM_BASE}http-{error.status_code}",
        "title": error.detail,
        "status": error.status_code,
        "detail": error.detail,
        "request_id": getattr(request.state, "request_id", None),
    }
    return JSONResponse(body, error.status_code, headers, MEDIA_TYPE)


def _allow(request: Request) -> dict[str, str]:
    """The methods of a path, which may have several routes; the framework names those of the first only."""
    path = getattr(request.scope.get("route"), "path", None)
    operations = request.app.openapi()["paths"].get(path)
    return {"Allow": ", ".join(operations).upper()} if operations else {}


async def _on_database(request: Request, error: Exception) -> JSONResponse:
    away = database_is_away(error)
    log.error("database_unavailable", error=type(error).__name__, away=away)
    words = "cannot be reached right now" if away else "is busy or does not answer in time"
    return await _on_expected(request, ServiceUnavailable(f"The database {words}; repeat the request."))


async def _on_database_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return await _on_database(request, error)
    return answer_unexpected(request, error)


def answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    """The response for a defect of ours. Only its type is logged: its message may quote a text."""
    log.error("unexpected_error", error=type(error).__name__)
    return answer_problem(
        request, MemauditError("Something went wrong; quote the request_id when you report it.")
    )


async def answer_failure(request: Request, error: Exception) -> JSONResponse:
    """The problem document for a failure, whichever of the app's handlers makes it."""
    for kind in type(error).__mro__:
        if handler := request.app.exception_handlers.get(kind):
            answer: JSONResponse = await handler(request, error)
            return answer
    return answer_unexpected(request, error)


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every failure of the app with a problem document."""
    app.add_exception_handler(MemauditError, _on_expected)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(OperationalError, _on_database)
    app.add_exception_handler(InterfaceError, _on_database)
    app.add_exception_handler(PoolTimeoutError, _on_database)
    app.add_exception_handler(DBAPIError, _on_database_error)
