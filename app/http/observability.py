"""Request ids, structured logs and Prometheus metrics. None of them ever holds a submitted text."""

import time
from uuid import uuid4

import structlog
from fastapi import Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import answer_unexpected

log = structlog.get_logger()

REQUEST_ID_HEADER = b"x-request-id"


class ServiceMetrics:
    """The Prometheus metrics of one API process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "memaudit_http_requests_total",
            "HTTP requests by route template, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "memaudit_http_request_seconds",
            "Seconds until the response ended, by route template.",
            ("route",),
            registry=self.registry,
        )
        self.jobs = Gauge(
            "memaudit_jobs", "Open jobs by kind and state.", ("kind", "state"), registry=self.registry
        )


class RequestObserver:
    """ASGI middleware: gives each request an id, counts it, logs it, and answers defects with a problem."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{uuid4().hex}"
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        began = time.perf_counter()

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (REQUEST_ID_HEADER, request_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, observed_send)
            except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback may quote a text
                response = answer_unexpected(Request(scope), error)
                if status == 0:
                    await response(scope, receive, observed_send)
            self._record(scope, status, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(route, scope["method"], status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        log.info("request", route=route, method=scope["method"], status=status, seconds=round(seconds, 4))
