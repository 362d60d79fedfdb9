"""Routes whose failures are pages too."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from app.errors import Unauthorized
from app.http.json_body import StrictJSONRequest
from app.http.problems import answer_failure
from app.pages.rendering import PAGE_HEADERS, render
from app.pages.visitors import sign_in_path

# htmx replaces a part of a page; with this header it loads the whole page anew.
RELOAD: Final = {"HX-Refresh": "true"}
_CONTRACT: Final = ("/v1/", "/api/")


class PageRoute(APIRoute):
    """A route that answers failures with a page, and sends who is not signed in to sign in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, on a request whose body is bounded."""
        handle = super().get_route_handler()

        async def handle_page(request: Request) -> Response:
            request = StrictJSONRequest(request.scope, request.receive)
            try:
                return await handle(request)
            except Unauthorized:
                if is_part(request):
                    return Response(headers=PAGE_HEADERS | RELOAD)
                return redirect(sign_in_path(request))
            except Exception as error:  # noqa: BLE001 - whatever it is has its problem document
                return await problem_page(request, error)

        return handle_page


def page_router() -> APIRouter:
    """A router of pages, which are no part of the API's contract."""
    return APIRouter(route_class=PageRoute, include_in_schema=False)


def is_part(request: Request) -> bool:
    """Whether htmx asks for a part of a page."""
    return "hx-request" in request.headers


def redirect(path: str) -> RedirectResponse:
    """Send the browser to another page, which it asks for with GET."""
    return RedirectResponse(path, HTTPStatus.SEE_OTHER, PAGE_HEADERS)


async def problem_page(request: Request, error: Exception) -> Response:
    """A page that says what the API's problem document for the same failure says."""
    answer = await answer_failure(request, error)
    problem = orjson.loads(answer.body)
    return render(request, "problem.html", status=answer.status_code, problem=problem)


async def answer_not_found(request: Request, error: Exception) -> Response:
    """What there is no route for: a page for a browser, a problem document for everything else."""
    assert isinstance(error, HTTPException)
    if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(_CONTRACT):
        return await problem_page(request, error)
    return await answer_failure(request, error)
