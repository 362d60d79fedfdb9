"""Traces of requests and jobs, sent to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names.

A trace goes from a request to its jobs by the jobs' rows: a message of the broker may be lost. Spans carry
ids, kinds, counts and routes. No submitted text, no path, no query and no error's message is in them.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRACEPARENT: Final = "traceparent"
_LAST_SPANS_SECONDS: Final = 2.0
_PROPAGATOR: Final = TraceContextTextMapPropagator()
# It gives spans that do and cost nothing until tracing is started.
_TRACER: Final = trace.get_tracer("memaudit")

Attributes = Mapping[str, str | int]


def start_tracing(service: str) -> Callable[[], None]:
    """Send the spans of this process to the collector of the environment; without one do nothing.

    Call it once in a process, and after a fork. The exporter's other settings are the `OTEL_*` variables of
    OpenTelemetry; it speaks HTTP.

    Args:
        service: the name of the service where `OTEL_SERVICE_NAME` gives none.

    Returns:
        What sends the spans that are left and ends tracing.

    Raises:
        ValueError: a collector is named, but what sends spans is not installed.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return _nothing
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ValueError(
            f"{_ENDPOINTS[0]} is set, but nothing here can send traces: install memaudit[telemetry]"
        ) from error
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
    exporter = OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)

    def stop() -> None:
        # A collector that is away must not hold up the end of this process.
        sending = threading.Thread(target=provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(_LAST_SPANS_SECONDS)
        if sending.is_alive():
            exporter.shutdown()  # type: ignore[no-untyped-call]

    return stop


def _nothing() -> None:
    pass


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    parent: str | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Iterator[trace.Span]:
    """A span around the block, which is the current one meanwhile.

    An error that leaves the block is not recorded: its message may quote a text.

    Args:
        name: without anything that a client has sent.
        attributes: likewise.
        parent: a `traceparent`; the current span where there is none.
        kind: what it stands for.
    """
    context: Context | None = None
    if parent is not None:
        context = _PROPAGATOR.extract({_TRACEPARENT: parent})
    with _TRACER.start_as_current_span(
        name,
        context,
        kind=kind,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        yield current


def current_traceparent() -> str | None:
    """The current span as W3C Trace Context writes it; None where nothing is traced."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(_TRACEPARENT)


def note(**facts: str) -> None:
    """Add to the current span what became known of its job."""
    trace.get_current_span().set_attributes({f"memaudit.job.{name}": fact for name, fact in facts.items()})
