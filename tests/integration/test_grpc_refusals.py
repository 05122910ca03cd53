"""What cannot be answered over gRPC, and how that is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc.service_pb2 import ModelInferRequest
from tritonclient.utils import InferenceServerException

from tests.integration.grpc_asking import INFER, SERVICE, photo_of, refused, typed
from tests.integration.inference import PHOTOS, grpc_address, pixels
from tests.integration.server import Server, running, until
from tests.photo_factory import encode, quarters
from tests.tiny_graph import SIZE

FLAT = SIZE * SIZE * 3


@pytest.fixture(scope="module")
def server(models_dir: Path) -> Iterator[Server]:
    with running(models_dir, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def speaker(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(grpc_address(server)) as client:
        yield client


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(grpc_address(server)) as channel:
        yield channel


def many() -> ModelInferRequest:
    return typed(np.repeat(pixels()[:1], 33, axis=0))


def altered(**fields: Any) -> ModelInferRequest:
    """A good request of one photo's pixels but for these fields of its input, or its own."""
    request = typed(np.zeros((1, SIZE, SIZE, 3), np.uint8))
    (tensor,) = request.inputs
    for name, value in fields.items():
        if name == "raw":
            request.raw_input_contents.extend(value)
        elif name == "elements":
            tensor.contents.uint_contents[:] = value
        elif name == "shape":
            tensor.shape[:] = value
        elif name == "outputs":
            for output in value:
                request.outputs.add(name=output)
        elif name == "contents":
            tensor.ClearField("contents")
        else:
            setattr(tensor, name, value)
    return request


ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT
OTHER = grpc.StatusCode.NOT_FOUND
CLASSES = altered(outputs=["embedding"])
CLASSES.outputs[0].parameters["classification"].int64_param = 1
WORD = altered(outputs=["probabilities"])
WORD.outputs[0].parameters["classification"].string_param = "x"


@pytest.mark.parametrize(
    ("request_", "status", "reason", "detail"),
    [
        (ModelInferRequest(model_name="other"), OTHER, "unknown_model", "got 'other'"),
        (
            ModelInferRequest(model_name="tiny", model_version="2"),
            OTHER,
            "unknown_model",
            "got 'tiny/2'",
        ),
        (ModelInferRequest(), OTHER, "unknown_model", "got ''"),
        (photo_of(b""), ARGUMENT, "empty", "got 0 bytes"),
        (photo_of(b"text"), ARGUMENT, "unsupported_format", "got"),
        (photo_of(PHOTOS[0][:-900]), ARGUMENT, "broken", "do not decode"),
        (photo_of(encode(quarters(8000, 7000))), ARGUMENT, "too_large", "50,000,000 pixels"),
        (many(), ARGUMENT, "too_many_photos", "at most 32 photos a request, got 33"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_answered_is_told_by_status_message_and_reason(
    channel: grpc.Channel,
    request_: ModelInferRequest,
    status: grpc.StatusCode,
    reason: str,
    detail: str,
) -> None:
    infer = channel.unary_unary(INFER, ModelInferRequest.SerializeToString)
    found, message, trailing = refused(
        lambda: infer(request_, metadata=(("x-request-id", "mine"),), timeout=30)
    )
    assert (found, trailing["reason"]) == (status, reason)
    assert detail in message
    assert trailing["x-request-id"] == "mine"
    assert "retry-after" not in trailing


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        (ModelInferRequest(model_name="tiny"), "expected the one input 'images', got []"),
        (altered(name="bank_keys"), "got ['bank_keys']"),
        (altered(datatype="FP32"), "got 'FP32'"),
        (altered(contents=None), "got no contents and 0 of raw_input_contents"),
        (altered(raw=[bytes(FLAT)]), "got contents and 1 of raw_input_contents"),
        (altered(contents=None, raw=[b"", b""]), "got no contents and 2 of raw_input_contents"),
        (altered(contents=None, raw=[bytes(FLAT - 1)]), "numbers from 0 to 255"),
        (altered(elements=[0] * (FLAT - 1)), "numbers from 0 to 255"),
        (altered(elements=[256] * FLAT), "no integers from 0 to 255"),
        (altered(elements=[]), "expected pixels in uint_contents"),
        (altered(shape=[0, SIZE, SIZE, 3]), "expected the shape [N, "),
        (altered(shape=[-1, SIZE, SIZE, 3]), "expected the shape [N, "),
        (altered(shape=[2**62, SIZE, SIZE, 3]), "numbers from 0 to 255"),
        (altered(shape=[1] * 100_000), "expected a shape of at most 8 numbers, got 100000"),
        (altered(shape=[]), "expected the shape [N, "),
        (altered(datatype="BYTES", shape=[1]), "got [1] and 0 photos"),
        (
            altered(datatype="BYTES", shape=[1], contents=None, raw=[b"\x05\0\0\x001234"]),
            "behind its length (4 bytes), got less",
        ),
        (altered(outputs=["logits"]), "expected outputs of probabilities"),
        (altered(outputs=["doubts", "doubts"]), "expected each output once, got doubts twice"),
        (CLASSES, "expected classification of probabilities, got embedding"),
        (WORD, "expected a number of classes, got 'x'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_none_of_the_protocol_is_told_what_is(
    channel: grpc.Channel, request_: ModelInferRequest, detail: str
) -> None:
    infer = channel.unary_unary(INFER, ModelInferRequest.SerializeToString)
    status, message, trailing = refused(lambda: infer(request_, timeout=30))
    assert (status, trailing["reason"]) == (ARGUMENT, "malformed_tensor"), message
    assert detail in message


def test_bytes_that_are_no_message_are_told_so(channel: grpc.Channel) -> None:
    for method in ("ModelInfer", "ModelMetadata", "ModelReady"):
        call = channel.unary_unary(f"{SERVICE}/{method}")
        for body in (b"\xff", b"\xff" * 100_000):
            status, message, _ = refused(lambda call=call, body=body: call(body, timeout=30))  # type: ignore[misc]
            assert status is ARGUMENT
            assert f"expected a {method}Request of the protocol" in message
    nothing = channel.stream_unary(INFER)
    status, message, _ = refused(lambda: nothing(iter(()), timeout=30))
    assert (status, message) == (ARGUMENT, "expected a message, got none")


def test_methods_that_there_are_not_are_refused_and_counted(
    speaker: triton.InferenceServerClient, channel: grpc.Channel, server: Server
) -> None:
    with pytest.raises(InferenceServerException, match="expected one of ServerLive, ") as caught:
        speaker.get_model_config("tiny")
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    for method in ("/other.Service/ModelInfer", "/ModelInfer"):
        status, message, _ = refused(lambda m=method: channel.unary_unary(m)(b"", timeout=30))  # type: ignore[misc]
        assert status is grpc.StatusCode.UNIMPLEMENTED
        assert method in message
    counted = 'superbin_requests_total{code="404",method="GRPC",route="unmatched"} 3.0'
    until(lambda: counted in httpx.get(f"{server.url}/metrics").text, "the count")


def test_a_message_may_be_as_large_as_a_body_and_no_larger_and_never_packed(
    channel: grpc.Channel,
) -> None:
    infer = channel.unary_unary(INFER)
    status, message, _ = refused(lambda: infer(bytes(64_000_000), timeout=60))
    assert status is ARGUMENT, message  # read, and none of the protocol
    status, message, _ = refused(lambda: infer(bytes(64_000_001), timeout=60))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "64000001 vs. 64000000" in message
    status, message, trailing = refused(lambda: infer(b"\x2a\x00" * 1_000_000, timeout=60))
    assert (status, trailing["reason"]) == (ARGUMENT, "request_too_large")
    assert "64,000,000 bytes in memory" in message
    status, message, _ = refused(
        lambda: infer(bytes(1_000_000), compression=grpc.Compression.Gzip, timeout=60)
    )
    assert status is grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in message
