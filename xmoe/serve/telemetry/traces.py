"""Traces of requests through router, rounds and experts, for OpenTelemetry.

    POST /v1/classify                    the router, with the request id that the client was told
      plan                               of a micro-batch, linked to every request in it
        round 1 -> expert NAME           each stacked call and its outcome
                     infer NAME          in the expert's own process
      round 2 -> expert NAME ...

Nothing is recorded unless OTEL_EXPORTER_OTLP_ENDPOINT is set. A trace continues the client's
``traceparent`` header (W3C Trace Context). What a micro-batch shares belongs to the trace of its
first request.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from xmoe.base.errors import ConfigError

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
ENDPOINTS = (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
W3C = TraceContextTextMapPropagator()
Reply = TypeVar("Reply")

# None where nothing is recorded.
TRACER: Tracer | None = None


def is_asked() -> bool:
    """Whether the environment asks for traces; ConfigError where they could not be sent."""
    if not any(os.environ.get(name) for name in ENDPOINTS):
        return False
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"traces cannot be sent: {error.name} is not installed",
            where=ENDPOINT,
            mend="pip install 'xmoe[otel]', or unset the variable",
        ) from error
    return True


def send_traces() -> None:
    """Start recording, if the environment asks for it."""
    global TRACER
    if not is_asked():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    os.environ.setdefault("OTEL_SERVICE_NAME", "xmoe")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    TRACER = provider.get_tracer("xmoe")


def _start(name: str, **how: Any) -> AbstractContextManager[Span]:
    return (
        nullcontext(INVALID_SPAN) if TRACER is None else TRACER.start_as_current_span(name, **how)
    )


def span_of_request(
    name: str, headers: Iterable[tuple[bytes, bytes]], request_id: str
) -> AbstractContextManager[Span]:
    """The span of a request, in the trace named by its headers."""
    if TRACER is None:
        return nullcontext(INVALID_SPAN)
    wanted = (b"traceparent", b"tracestate")
    given = {key.decode(): value.decode("latin-1") for key, value in headers if key in wanted}
    told = {"xmoe.request_id": request_id}
    return _start(name, context=W3C.extract(given), kind=SpanKind.SERVER, attributes=told)


def span_of_many(name: str, requests: Sequence[Context]) -> AbstractContextManager[Span]:
    """The span of work that requests share: a child of the first, linked to the others."""
    spans = [trace.get_current_span(one) for one in requests]
    if not spans[0].is_recording():
        return nullcontext(INVALID_SPAN)
    links = [Link(span.get_span_context()) for span in spans[1:]]
    return _start(name, context=requests[0], links=links)


def round_of(
    name: str, begin: Callable[[], dict[str, asyncio.Task[Reply]]]
) -> dict[str, asyncio.Task[Reply]]:
    """The calls that ``begin`` starts, in a span that ends with the last of them."""
    if TRACER is None or not trace.get_current_span().is_recording():
        return begin()
    with TRACER.start_as_current_span(name, end_on_exit=False) as span:
        calls = begin()
    everyone = asyncio.gather(*calls.values(), return_exceptions=True)
    everyone.add_done_callback(lambda _: span.end())
    return calls


def span_of_call(expert: str, rows: int) -> AbstractContextManager[Span]:
    """The span of one call to an expert, inside that of its round."""
    if not trace.get_current_span().is_recording():
        return nullcontext(INVALID_SPAN)
    told = {"xmoe.expert": expert, "xmoe.rows": rows}
    return _start(f"expert {expert}", kind=SpanKind.CLIENT, attributes=told)


def note(**told: Any) -> None:
    """Add attributes to the current span, if one is recorded."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes({f"xmoe.{name}": value for name, value in told.items()})


def give_on() -> dict[str, str]:
    """What another process needs to continue the trace; empty where none is recorded."""
    carrier: dict[str, str] = {}
    if trace.get_current_span().is_recording():
        W3C.inject(carrier)
    return carrier


def span_of_inference(expert: str, carrier: Mapping[str, str]) -> AbstractContextManager[Span]:
    """The span of an expert's inference, in the trace of the calling router."""
    if not carrier:
        return nullcontext(INVALID_SPAN)
    return _start(f"infer {expert}", context=W3C.extract(carrier), kind=SpanKind.SERVER)
