"""Spans of calls over gRPC, sent to a real collector's socket."""

from __future__ import annotations

import threading
from pathlib import Path

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelReadyRequest

from tests.integration.grpc_asking import INFER, ONE, SERVICE, asked, infer, queued, refused, silent
from tests.integration.server import running
from tests.integration.test_tracing import PARENT, TRACE, collector, exported


def test_a_call_continues_its_callers_trace_and_the_log_names_it(models_dir: Path) -> None:
    metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
    with (
        collector() as (endpoint, came),
        running(models_dir, grpc_port=0, otlp_endpoint=endpoint) as server,
    ):
        with asked(server) as channel:
            assert infer(channel)(ONE, metadata=metadata, timeout=30).outputs
        assert server.stop() == 0  # which sends the spans
    (span,) = [span for span in exported(came) if span.trace_id.hex() == TRACE]
    assert span.parent_span_id.hex() == PARENT
    assert f"/{span.name}" == INFER
    (line,) = [line for line in server.log_lines() if line.get("route") == INFER]
    assert line["trace_id"] == TRACE


def test_a_span_tells_how_a_call_ended_and_blames_the_server_for_its_own_alone(
    models_dir: Path,
) -> None:
    service = SERVICE.removeprefix("/")
    leave = threading.Event()
    with (
        collector() as (endpoint, came),
        running(models_dir, grpc_port=0, otlp_endpoint=endpoint, header_timeout_s=0.5) as server,
    ):
        with asked(server) as channel:
            streamed = channel.stream_unary(INFER, ModelInferRequest.SerializeToString)
            gone = streamed.future(silent(leave), timeout=60)
            queued(server, 1)
            gone.cancel()
            queued(server, 0)
            assert infer(channel)(ONE, timeout=30).outputs
            other = ModelInferRequest(model_name="other")
            refused(lambda: infer(channel)(other, timeout=30))
            refused(lambda: channel.unary_unary(INFER)(b"\xff", timeout=30))
            ready = channel.stream_unary(
                f"{SERVICE}/ModelReady", ModelReadyRequest.SerializeToString
            )
            refused(lambda: ready(silent(leave), timeout=60))
            refused(lambda: channel.unary_unary("/what.they/Wrote")(b"", timeout=30))
            leave.set()
        assert server.stop() == 0  # which sends the spans
    spans = [span for span in exported(came) if span.kind == Span.SPAN_KIND_SERVER]
    found = {}
    for span in spans:
        told = attributes(span)
        if told.get("rpc.system") == "grpc":
            found[span.name, told.pop("rpc.grpc.status_code")] = span.status.code, told
    infers = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": "ModelInfer"}
    assert found == {
        (f"{service}/ModelInfer", 0): (Status.STATUS_CODE_UNSET, infers),
        (f"{service}/ModelInfer", 1): (Status.STATUS_CODE_UNSET, infers),  # cancelled
        (f"{service}/ModelInfer", 3): (Status.STATUS_CODE_UNSET, infers),  # invalid argument
        (f"{service}/ModelInfer", 5): (Status.STATUS_CODE_UNSET, infers),  # not found
        (f"{service}/ModelReady", 4): (  # deadline exceeded
            Status.STATUS_CODE_ERROR,
            infers | {"rpc.method": "ModelReady"},
        ),
        ("unmatched", 12): (Status.STATUS_CODE_ERROR, {"rpc.system": "grpc"}),  # unimplemented
    }
    assert not any(span.events for span in spans)


def attributes(span: Span) -> dict[str, str | int]:
    return {
        one.key: one.value.int_value if one.value.HasField("int_value") else one.value.string_value
        for one in span.attributes
    }
