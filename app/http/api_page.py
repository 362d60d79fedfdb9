"""The interactive page of the API's contract, with every file of it served from here."""

from typing import Final

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

# The page works behind any prefix: its links are relative.
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>memaudit API</title>
<link rel="icon" href="docs/files/favicon.png">
<link rel="stylesheet" href="docs/files/swagger-ui.css">
</head>
<body>
<div id="contract"></div>
<script src="docs/files/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#contract",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
"""
# Nothing from or to anywhere else, and no script or style within the page.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}

_router = APIRouter(include_in_schema=False)


@_router.get("/docs")
async def show_contract() -> HTMLResponse:
    """The page."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@_router.get("/docs/start.js")
async def start_page() -> Response:
    """What the page runs: a file of its own, as its policy allows no script within it."""
    return Response(_START, headers=_HEADERS, media_type="text/javascript")


def install_api_page(app: FastAPI) -> None:
    """Serve the page at `/docs`. Swagger UI's own files come with the package `fastapi_offline`."""
    app.include_router(_router)
    app.mount("/docs/files", StaticFiles(packages=[("fastapi_offline", "static")]))
