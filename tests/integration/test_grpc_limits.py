"""What a call over gRPC may cost the service: who gets in, and for how long."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import grpc
import httpx
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelReadyRequest

from service.keys import digest_of
from tests.integration.grpc_asking import (
    INFER,
    ONE,
    SERVICE,
    UNAVAILABLE,
    asked,
    codes,
    infer,
    metrics,
    queued,
    refused,
    silent,
    slow,
)
from tests.integration.inference import PHOTOS
from tests.integration.server import Server, running, until


def test_a_full_queue_refuses_before_the_message_and_places_come_back(models_dir: Path) -> None:
    leave = threading.Event()
    with (
        running(models_dir, grpc_port=0, max_queue=2, max_photos=2, client_share=1) as server,
        asked(server) as channel,
    ):
        streamed = channel.stream_unary(INFER, ModelInferRequest.SerializeToString)
        first, second = (streamed.future(silent(leave), timeout=60) for _ in range(2))
        queued(server, 2)
        status, message, trailing = refused(lambda: streamed(silent(leave), timeout=30))
        assert (status, trailing["reason"]) == (UNAVAILABLE, "queue_full")
        assert "expected at most 2 photos in the queue, which holds 2" in message
        assert int(trailing["retry-after"]) >= 1
        full = httpx.post(f"{server.url}/v1/classify", files={"file": PHOTOS[0]}, timeout=30)
        assert full.status_code == 503
        first.cancel()
        queued(server, 1)
        leave.set()
        assert second.result()
        queued(server, 0)
        assert 'superbin_rejections_total{reason="queue_full"} 2.0' in metrics(server)
        until(lambda: 499 in codes(server), "the departure to be logged")


def test_bytes_have_their_places_too(models_dir: Path) -> None:
    request = slow(32)
    size = len(request.SerializeToString()) + 1000
    limits = {"max_queue_bytes": size, "max_request_bytes": size, "decode_workers": 1}
    with running(models_dir, grpc_port=0, **limits) as server, asked(server) as channel:
        call = infer(channel).future(request, timeout=60)
        queued(server, 32)
        status, message, trailing = refused(lambda: infer(channel)(ONE, timeout=30))
        assert (status, trailing["reason"]) == (UNAVAILABLE, "queue_full")
        assert f"expected at most {size:,} bytes in the queue" in message
        call.cancel()
        queued(server, 0)
        assert infer(channel)(ONE, timeout=30).outputs
        assert "superbin_queue_bytes 0.0" in metrics(server)


def test_one_client_that_sends_slowly_keeps_no_other_waiting(
    models_dir: Path, tmp_path: Path
) -> None:
    """Of each client one message is received at a time, where the queue could hold no more."""
    file = tmp_path / "keys.toml"
    file.write_text(f'clients.a = "{digest_of("a")}"\nclients.b = "{digest_of("b")}"\n')
    limits = {"max_queue_bytes": 1_000_000, "max_request_bytes": 1_000_000, "keys_file": file}
    leave = threading.Event()
    mine, other = (("x-api-key", "a"),), (("x-api-key", "b"),)
    with running(models_dir, grpc_port=0, **limits) as server, asked(server) as channel:
        streamed = channel.stream_unary(INFER, ModelInferRequest.SerializeToString)
        slow = streamed.future(silent(leave), metadata=mine, timeout=60)
        queued(server, 1)
        status, *_ = refused(lambda: infer(channel)(ONE, metadata=mine, timeout=0.5))
        assert status is grpc.StatusCode.DEADLINE_EXCEEDED
        assert infer(channel)(ONE, metadata=other, timeout=30).outputs
        next_one = infer(channel).future(ONE, metadata=mine, timeout=30)
        leave.set()
        assert slow.result()
        assert next_one.result().outputs


def test_a_message_that_does_not_come_is_given_up(models_dir: Path) -> None:
    leave = threading.Event()
    limits = {"timeout_s": 0.5, "header_timeout_s": 0.2}
    with running(models_dir, grpc_port=0, **limits) as server, asked(server) as channel:
        streamed = channel.stream_unary(INFER, ModelInferRequest.SerializeToString)
        status, message, trailing = refused(lambda: streamed(silent(leave), timeout=60))
        assert (status, trailing["reason"]) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "slow_request",
        )
        assert "expected the message within 0.5 s" in message
        ready = channel.stream_unary(f"{SERVICE}/ModelReady", ModelReadyRequest.SerializeToString)
        waiting = [ready.future(silent(leave), timeout=60) for _ in range(20)]
        for call in waiting:
            assert call.exception().code() is grpc.StatusCode.DEADLINE_EXCEEDED
        leave.set()


def decoded(server: Server) -> float:
    """Photos, so far."""
    return float(metrics(server).split('duration_seconds_count{stage="decode"} ')[1].split()[0])


def test_photos_of_a_call_that_is_cancelled_are_not_decoded(models_dir: Path) -> None:
    with (
        running(models_dir, grpc_port=0, decode_workers=1) as server,
        asked(server) as channel,
    ):
        call = infer(channel).future(slow(32), timeout=60)
        queued(server, 32)
        call.cancel()
        queued(server, 0)
        assert infer(channel)(ONE, timeout=60).outputs
        assert decoded(server) < 32
        until(lambda: codes(server) == {499: "CANCELLED", 200: "OK"}, "the lines in the log")


def test_a_deadline_ends_a_call_and_what_it_asked_for(models_dir: Path) -> None:
    with (
        running(models_dir, grpc_port=0, decode_workers=1) as server,
        asked(server) as channel,
    ):
        request = slow(32)

        def is_late() -> bool:
            call = infer(channel).future(request, timeout=1.0)
            assert call.exception().code() in (grpc.StatusCode.DEADLINE_EXCEEDED, UNAVAILABLE)
            queued(server, 0)
            return codes(server).get(504) == "DEADLINE_EXCEEDED"

        until(is_late, "a call that was late")
        assert infer(channel)(ONE, timeout=60).outputs


def test_a_deadline_that_has_passed_once_the_message_is_there_is_told_so(models_dir: Path) -> None:
    with running(models_dir, grpc_port=0) as server, asked(server) as channel:
        told: list[str] = []

        def is_told() -> bool:
            error = infer(channel).future(ONE, timeout=0.0005).exception(60)
            if error and "expected" in error.details():
                told.append(error.details())
            return any("got one that has passed" in one for one in told)

        assert infer(channel)(ONE, timeout=30).outputs
        until(is_told, "a call that was late at once")
        assert not any("within 0 s" in one for one in told)


def test_a_deadline_that_cannot_be_kept_is_told_at_once(models_dir: Path) -> None:
    """That of bulk behind other bulk, which a single photo would not wait for."""
    with (
        running(models_dir, grpc_port=0, decode_workers=1) as server,
        asked(server) as channel,
    ):
        request, behind = slow(32), slow(5)
        busy = [infer(channel).future(request, timeout=60)]
        told: list[dict[str, str]] = []

        def is_told() -> bool:
            if busy[-1].done():
                busy.append(infer(channel).future(request, timeout=60))
            with suppress(grpc.FutureTimeoutError):
                error = infer(channel).future(behind, timeout=0.3).exception(60)
                if error and error.code() is UNAVAILABLE:
                    told.append(dict(error.trailing_metadata()))
            return bool(told)

        until(is_told, "a refusal in time")
        assert told[0]["reason"] == "too_slow"
        assert int(told[0]["retry-after"]) >= 1
        busy[-1].cancel()
