"""How the routes of long work answer a dry run."""

from typing import Any, Final

from fastapi.responses import JSONResponse

from app.estimates.schemas import Estimate

ESTIMATE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Estimate, "description": "With `dry_run`: what it takes. Nothing was written."}
}


def estimated(estimate: Estimate) -> JSONResponse:
    """The answer to a request that is not to be done."""
    return JSONResponse(estimate.model_dump(mode="json"))
