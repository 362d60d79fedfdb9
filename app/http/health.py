"""Routes for those who run the service: health, readiness, metrics."""

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.http.dependencies import StoreDependency
from app.http.observability import ServiceMetrics
from app.http.problems import problem_responses

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def health() -> Health:
    """Whether the process is alive."""
    return Health()


@router.get("/readyz", responses=problem_responses(503))
async def readiness(store: StoreDependency) -> Health:
    """Whether the process can serve: its database answers. The broker is not needed to accept work."""
    await store.run(_ping)
    return Health()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, store: StoreDependency) -> Response:
    """Prometheus metrics of this process, and of the whole service as far as the database tells them."""
    service_metrics: ServiceMetrics = request.app.state.metrics
    await service_metrics.load.refresh(store)
    return Response(generate_latest(service_metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _ping(session: Session) -> None:
    session.execute(text("SELECT 1"))
