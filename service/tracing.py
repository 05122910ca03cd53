"""Traces by OpenTelemetry: W3C trace context in, spans out by OTLP; off without an endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import __version__
from service.extras import how_to_install
from service.settings import SettingsError

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider

# Of gRPC's statuses those that OpenTelemetry takes for a server's errors: UNKNOWN,
# DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
FAULTS = frozenset({2, 4, 12, 13, 14, 15})


def open_provider(endpoint: str | None) -> TracerProvider | None:
    """What gathers spans and sends them to `<endpoint>/v1/traces`; to be shut down in the end.

    Raises:
        SettingsError: where the packages for it are not installed.
    """
    if endpoint is None:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"SUPERBIN_OTLP_ENDPOINT needs {error.name}, which is not installed: "
            f"{how_to_install('trace')}"
        ) from error
    resource = Resource.create({"service.name": "superbin", "service.version": __version__})
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def telemetry(provider: TracerProvider | None) -> TelemetryConfig:
    """What FastAPI is to do: traces where there is a provider, and nothing else of its own."""
    return {
        "tracer_provider": provider,
        "tracing": provider is not None,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
    }


@contextmanager
def call_span(
    provider: TracerProvider | None, method: str, headers: Mapping[str, str]
) -> Iterator[None]:
    """A span for a call over gRPC, in its caller's trace; none where there is no provider.

    How the call ends is for `end_call` to say, not for what is raised: gRPC refuses by raising.

    Args:
        method: its full name, `/package.Service/Method`.
        headers: its metadata.
    """
    if provider is None:
        yield
        return
    caller = TraceContextTextMapPropagator().extract(headers)
    with provider.get_tracer("superbin", __version__).start_as_current_span(
        method.removeprefix("/"),
        caller,
        trace.SpanKind.SERVER,
        {"rpc.system": "grpc"},
        record_exception=False,
        set_status_on_exception=False,
    ):
        yield


def end_call(route: str, status: int) -> None:
    """Tell the span of a call over gRPC what came of it.

    Args:
        route: the method's full name, or one word for those that there are not.
        status: the number of gRPC's status.
    """
    span = trace.get_current_span()
    span.update_name(route.removeprefix("/"))
    service, slash, method = route.removeprefix("/").rpartition("/")
    if slash:
        span.set_attributes({"rpc.service": service, "rpc.method": method})
    span.set_attribute("rpc.grpc.status_code", status)
    if status in FAULTS:
        span.set_status(trace.StatusCode.ERROR)


def current_trace() -> str | None:
    """The id of the trace that this request belongs to, for its line in the log."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
