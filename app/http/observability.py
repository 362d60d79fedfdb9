"""Request ids, structured logs, metrics and spans of requests. None of them ever holds a submitted text."""

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Final
from uuid import uuid4

import structlog
from fastapi import Request
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contracts.tenants import Quotas
from app.errors import ServiceUnavailable
from app.http.problems import answer_failure, answer_unexpected
from app.http.service_load import ServiceLoad
from app.tracing import span

log = structlog.get_logger()

REQUEST_ID_HEADER = b"x-request-id"
# Any other word in its place is the client's own, and a label for each would be no help.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
WEBHOOK_OUTCOMES: Final = ("delivered", "failed", "dead")
_CUT_OFF: Final = "The process that was answering ends; repeat the request, with the same Idempotency-Key."
# Asked for every few seconds by machines.
_UNTRACED: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_LIMITS: Final = (
    *(Quotas.model_fields.keys() - {"upload_bytes"}),
    *("wrong_keys", "connections", "headers", "slow_headers", "slow_body", "slow_reader"),
    *("busy_short", "busy_heavy", "busy_waiting", "busy_bulk", "busy_erasure"),
)


class ServiceMetrics:
    """The Prometheus metrics of one API process.

    Args:
        artifact_store: the place of artifacts.
    """

    def __init__(self, artifact_store: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.load = ServiceLoad(artifact_store)
        self.registry.register(self.load)
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
        self.refusals = Counter(
            "memaudit_refused_total",
            "Requests and connections that passed a limit, by the limit.",
            ("limit",),
            registry=self.registry,
        )
        for limit in _LIMITS:
            self.refusals.labels(limit)  # shown from the start, so that the first refusal is an increase
        self.expired_leases = Counter(
            "memaudit_expired_leases_total",
            "Jobs that this process took back because their worker was silent for longer than a lease.",
            registry=self.registry,
        )
        self._webhooks = Counter(
            "memaudit_webhook_attempts_total",
            "Tries of this process to deliver a webhook, by what became of them.",
            ("outcome",),
            registry=self.registry,
        )
        for outcome in WEBHOOK_OUTCOMES:
            self._webhooks.labels(outcome)  # shown before the first one

    def count_webhook(self, outcome: str) -> None:
        """Count a try to deliver a webhook: `delivered`, `failed` or, with the last one, `dead`."""
        self._webhooks.labels(outcome).inc()

    def refused(self, limit: str) -> None:
        """Count what passed a limit."""
        self.refusals.labels(limit).inc()


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

        with structlog.contextvars.bound_contextvars(request_id=request_id), _request_span(scope) as current:
            current.set_attribute("memaudit.request_id", request_id)
            try:
                await self._app(scope, receive, observed_send)
            except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback may quote a text
                response = answer_unexpected(Request(scope), error)
                if status == 0:
                    await response(scope, receive, observed_send)
            except asyncio.CancelledError:
                # The server cuts off what is open when the time to drain is over, and would call it a defect.
                # So it is answered here; an answer that has begun is left without its end.
                if status == 0:
                    response = await answer_failure(Request(scope), ServiceUnavailable(_CUT_OFF))
                    await response(scope, receive, observed_send)
            self._record(scope, status, time.perf_counter() - began, current)

    def _record(self, scope: Scope, status: int, seconds: float, current: Span) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        method = _method(scope)
        self._metrics.requests.labels(route, method, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        current.update_name(f"{method} {route}")
        current.set_attributes({"http.route": route, "http.response.status_code": status})
        log.info("request", route=route, method=method, status=status, seconds=round(seconds, 4))


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _request_span(scope: Scope) -> AbstractContextManager[Span]:
    """A span around a request, in the client's own trace if it names one."""
    if scope["path"] in _UNTRACED:
        return nullcontext(INVALID_SPAN)
    parent = dict(scope["headers"]).get(b"traceparent")
    method = _method(scope)
    return span(
        method,
        {"http.request.method": method},
        parent=None if parent is None else parent.decode("latin-1"),
        kind=SpanKind.SERVER,
    )
