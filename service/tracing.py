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
        {"rpc.system": "grpc", "rpc.method": method},
    ):
        yield


def current_trace() -> str | None:
    """The id of the trace that this request belongs to, for its line in the log."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
