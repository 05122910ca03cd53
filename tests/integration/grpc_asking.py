"""What the tests of gRPC share: calls by a plain stub, and how they are refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse

from tests.integration.inference import PHOTOS, grpc_address
from tests.integration.server import Server, until
from tests.photo_factory import encode, quarters

SERVICE = "/inference.GRPCInferenceService"
INFER = f"{SERVICE}/ModelInfer"
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def typed(array: npt.NDArray[Any]) -> ModelInferRequest:
    """An array with its elements one by one, which Triton's client cannot write."""
    kind = "BYTES" if array.dtype == object else "UINT8"
    request = ModelInferRequest(model_name="tiny", id="seven")
    tensor = request.inputs.add(name="images", datatype=kind, shape=array.shape)
    contents = tensor.contents
    (contents.bytes_contents if kind == "BYTES" else contents.uint_contents).extend(array.ravel())
    return request


def refused(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    """The status, the message and the trailing metadata that a call of a stub ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details(), dict(error.trailing_metadata() or ())


def photo_of(data: bytes) -> ModelInferRequest:
    array = np.empty(1, dtype=object)
    array[:] = [data]
    return typed(array)


ONE = photo_of(PHOTOS[0])


@contextmanager
def asked(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(grpc_address(server)) as channel:
        yield channel


def infer(channel: grpc.Channel) -> Any:
    return channel.unary_unary(
        INFER, ModelInferRequest.SerializeToString, ModelInferResponse.FromString
    )


def slow(photos: int) -> ModelInferRequest:
    """Photos that take a while to decode."""
    array = np.empty(photos, dtype=object)
    array[:] = [encode(quarters(3000, 2000), "PNG")] * photos
    request = ModelInferRequest(model_name="tiny")
    tensor = request.inputs.add(name="images", datatype="BYTES", shape=[photos])
    tensor.contents.bytes_contents.extend(array)
    return request


def metrics(server: Server) -> str:
    return httpx.get(f"{server.url}/metrics").text


def queued(server: Server, photos: int) -> None:
    """Wait until so many photos are in the queue."""
    line = f"superbin_queue_photos {photos}.0\n"
    until(lambda: line in metrics(server), f"{photos} photos in the queue")


def silent(leave: threading.Event) -> Iterator[ModelInferRequest]:
    """A message that is long in coming."""
    leave.wait()
    yield ONE


def codes(server: Server) -> dict[int, str]:
    """Of calls that ended, with gRPC's status."""
    return {
        line["code"]: line["status"] for line in server.log_lines() if line.get("route") == INFER
    }
