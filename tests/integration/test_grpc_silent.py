"""Calls over gRPC whose messages do not come: they cost a client nothing, nor anybody else."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from tritonclient.grpc.service_pb2 import (
    ModelInferRequest,
    ModelReadyRequest,
    ServerLiveRequest,
    ServerLiveResponse,
)

from tests.integration.grpc_asking import (
    INFER,
    ONE,
    SERVICE,
    asked,
    infer,
    metrics,
    refused,
    silent,
)
from tests.integration.inference import PHOTOS
from tests.integration.server import running, until

LIMITS = {"max_queue": 8, "max_photos": 8, "max_queue_bytes": 40_000_000}
LIMITS |= {"max_request_bytes": LIMITS["max_queue_bytes"] // 4}
LIMITS |= {"header_timeout_s": 60, "timeout_s": 60}
MOST = 3 + LIMITS["max_queue"] // 2


@pytest.mark.parametrize(
    ("method", "message"),
    [(f"{SERVICE}/ModelReady", ModelReadyRequest), (INFER, ModelInferRequest)],
    ids=["question", "photos"],
)
def test_one_clients_silent_calls_are_few_and_keep_nobody_out(
    models_dir: Path, method: str, message: Any
) -> None:
    leave = threading.Event()
    with running(models_dir, grpc_port=0, **LIMITS) as server, asked(server) as channel:
        streamed = channel.stream_unary(method, message.SerializeToString)
        sent = [streamed.future(silent(leave), timeout=60) for _ in range(MOST + 4)]
        until(lambda: sum(not call.done() for call in sent) == MOST, "the others to be refused")
        live = channel.unary_unary(
            f"{SERVICE}/ServerLive",
            ServerLiveRequest.SerializeToString,
            ServerLiveResponse.FromString,
        )
        for _ in range(20):  # each is refused, however many there are
            status, told, trailing = refused(lambda: streamed(silent(leave), timeout=60))
            assert (status, trailing["reason"]) == (grpc.StatusCode.UNAVAILABLE, "queue_full")
            assert f"expected at most {MOST} calls of one client" in told
            assert trailing["retry-after"] == "1"
        assert live(ServerLiveRequest(), timeout=30).live
        photo = httpx.post(f"{server.url}/v1/classify", files={"file": PHOTOS[0]}, timeout=30)
        assert photo.status_code == 200  # of the queue's places no more than half are taken
        for call in sent:
            call.cancel()

        def answered() -> bool:
            with suppress(grpc.RpcError):
                return bool(infer(channel)(ONE, timeout=30).outputs)
            return False

        until(answered, "their places to come back")
        until(lambda: "superbin_queue_photos 0.0\n" in metrics(server), "the queue to be empty")
        leave.set()
