"""W3C trace context in, spans out to a real collector's socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration.server import running

PHOTO = (Path(__file__).parent.parent / "photos" / "glass.jpg").read_bytes()
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextmanager
def collector() -> Iterator[tuple[str, list[ExportTraceServiceRequest]]]:
    """A server that takes what is exported."""
    came: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            came.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", came
        finally:
            server.shutdown()
            thread.join()


def exported(came: list[ExportTraceServiceRequest]) -> list[Span]:
    return [
        span
        for request in came
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_a_request_continues_its_callers_trace_and_the_log_names_it(models_dir: Path) -> None:
    with collector() as (endpoint, came), running(models_dir, otlp_endpoint=endpoint) as server:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        answer = httpx.post(
            f"{server.url}/v1/classify", files={"file": PHOTO}, headers=headers, timeout=30
        )
        assert answer.status_code == 200
    (span,) = [span for span in exported(came) if span.trace_id.hex() == TRACE]
    assert span.parent_span_id.hex() == PARENT
    assert span.name == "POST /v1/classify"
    (line,) = [line for line in server.log_lines() if line.get("route") == "/v1/classify"]
    assert line["trace_id"] == TRACE


def test_without_an_endpoint_there_are_none(models_dir: Path) -> None:
    with running(models_dir) as server:
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        httpx.get(f"{server.url}/v1/models", headers=headers)
    (line,) = [line for line in server.log_lines() if line.get("route") == "/v1/models"]
    assert "trace_id" not in line
