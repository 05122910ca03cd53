"""What a call over gRPC brought is let go of with it, as `test_memory` has it for HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest

from tests.benchmarks.readiness import resident_mb
from tests.integration.grpc_asking import INFER, asked, infer, metrics, queued, refused, slow
from tests.integration.server import Server, running, until
from tests.integration.test_memory import (
    BAD,
    GOOD,
    LEAST_KEPT_MB,
    MB,
    ROUNDS,
    WARM,
    WITHOUT_COLLECTOR,
)

Ask = Callable[[Server, grpc.Channel], None]


def request_of(*photos: bytes, raw: bool = False, model: str = "tiny") -> ModelInferRequest:
    request = ModelInferRequest(model_name=model)
    tensor = request.inputs.add(name="images", datatype="BYTES", shape=[len(photos)])
    if raw:
        parts = (len(photo).to_bytes(4, "little") + photo for photo in photos)
        request.raw_input_contents.append(b"".join(parts))
    else:
        tensor.contents.bytes_contents.extend(photos)
    return request


def good(raw: bool) -> Ask:
    request = request_of(GOOD, raw=raw)

    def ask(_: Server, channel: grpc.Channel) -> None:
        assert infer(channel)(request, timeout=30).outputs

    return ask


def bad(body: bytes, expected: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> Ask:
    def ask(_: Server, channel: grpc.Channel) -> None:
        status, *_ = refused(lambda: channel.unary_unary(INFER)(body, timeout=30))
        assert status is expected

    return ask


def cancelled() -> Ask:
    """Read, and being decoded: 32 photos take longer than it takes to see them in the queue."""
    request = slow(32)
    tensor = request.inputs[0].contents
    tensor.bytes_contents[0] += bytes(2 * MB)

    def ask(server: Server, channel: grpc.Channel) -> None:
        def is_cancelled() -> bool:
            call = infer(channel).future(request, timeout=60)
            line = "superbin_queue_photos 32.0\n"
            until(lambda: line in metrics(server) or call.done(), "the photos in the queue")
            call.cancel()
            return bool(call.cancelled())

        until(is_cancelled, "a call that was cancelled")
        queued(server, 0)

    return ask


ASKED: dict[str, Ask] = {
    "photo": good(raw=False),
    "photo, raw": good(raw=True),
    "no photo": bad(request_of(BAD).SerializeToString()),
    "no photo, raw": bad(request_of(BAD, raw=True).SerializeToString()),
    "no message": bad(BAD),
    "another model": bad(
        request_of(GOOD, model="other").SerializeToString(), grpc.StatusCode.NOT_FOUND
    ),
    "cancelled": cancelled(),
}


@pytest.fixture(scope="module")
def uncollected(models_dir: Path) -> Iterator[Server]:
    """A server whose collector is off: what lies in a circle stays for good."""
    settings = {"grpc_port": 0, "decode_workers": 1, "log_level": "warning"}
    with running(models_dir, command=WITHOUT_COLLECTOR, **settings) as server:
        yield server


@pytest.mark.parametrize("kind", ASKED)
def test_nothing_of_a_call_is_left_to_the_collector(uncollected: Server, kind: str) -> None:
    ask = ASKED[kind]
    pid = uncollected.process.pid
    with asked(uncollected) as channel:
        for _ in range(WARM):
            ask(uncollected, channel)
        before = resident_mb(pid)
        for _ in range(ROUNDS):
            ask(uncollected, channel)
        assert resident_mb(pid) - before < LEAST_KEPT_MB / 2
