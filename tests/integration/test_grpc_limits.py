"""What a call over gRPC may cost the service: who gets in, for how long, and how it ends."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse, ModelReadyRequest

from service.keys import digest_of
from tests.integration.inference import PHOTOS, grpc_address
from tests.integration.server import Server, environment, running, spawn, until
from tests.integration.test_grpc import INFER, SERVICE, photo_of, refused
from tests.photo_factory import encode, quarters

ONE = photo_of(PHOTOS[0])
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


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


def test_without_a_key_nothing_opens_and_the_message_is_not_waited_for(
    models_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(f'clients."line-4" = "{digest_of("four")}"\n')
    leave = threading.Event()
    with running(models_dir, grpc_port=0, keys_file=file) as server, asked(server) as channel:
        streamed = channel.stream_unary(INFER, ModelInferRequest.SerializeToString)
        for metadata in ((), (("x-api-key", "six"),), (("authorization", "Basic four"),)):
            status, message, trailing = refused(
                lambda m=metadata: streamed(silent(leave), metadata=m, timeout=30)  # type: ignore[misc]
            )
            assert (status, trailing["reason"]) == (
                grpc.StatusCode.UNAUTHENTICATED,
                "key_refused",
            )
            assert "expected a key as Authorization: Bearer or X-API-Key" in message
        leave.set()
        for metadata in ((("x-api-key", "four"),), (("authorization", "Bearer four"),)):
            assert infer(channel)(ONE, metadata=metadata, timeout=30).outputs
        with triton.InferenceServerClient(grpc_address(server)) as speaker:
            assert speaker.is_model_ready("tiny")
            with pytest.raises(triton.InferenceServerException, match="expected a key"):
                speaker.get_model_metadata("tiny")
            headers = {"authorization": "Bearer four"}
            assert speaker.get_model_metadata("tiny", headers=headers).name == "tiny"


def test_a_rate_holds_for_all_that_an_address_asks_by_either_protocol(models_dir: Path) -> None:
    with (
        running(models_dir, grpc_port=0, rate_photos_s=0.001, max_photos=2) as server,
        asked(server) as channel,
    ):
        files = {"file": PHOTOS[0]}
        assert httpx.post(f"{server.url}/v1/classify", files=files, timeout=30).status_code == 200
        assert infer(channel)(ONE, timeout=30).outputs
        status, message, trailing = refused(lambda: infer(channel)(ONE, timeout=30))
        assert (status, trailing["reason"]) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "rate_limited",
        )
        assert "expected at most 0.001 photos a second" in message
        assert int(trailing["retry-after"]) >= 1
        assert trailing["grpc-retry-pushback-ms"] == f"{trailing['retry-after']}000"
        again = httpx.post(f"{server.url}/v1/classify", files=files, timeout=30)
        assert again.status_code == 429


def test_a_full_queue_refuses_before_the_message_and_places_come_back(models_dir: Path) -> None:
    leave = threading.Event()
    with (
        running(models_dir, grpc_port=0, max_queue=2, max_photos=2) as server,
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


def codes(server: Server) -> dict[int, str]:
    """Of calls that ended, with gRPC's status."""
    return {
        line["code"]: line["status"] for line in server.log_lines() if line.get("route") == INFER
    }


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
    with (
        running(models_dir, grpc_port=0, decode_workers=1) as server,
        asked(server) as channel,
    ):
        request = slow(32)
        busy = [infer(channel).future(request, timeout=60)]
        told: list[dict[str, str]] = []

        def is_told() -> bool:
            if busy[-1].done():
                busy.append(infer(channel).future(request, timeout=60))
            with suppress(grpc.FutureTimeoutError):
                error = infer(channel).future(ONE, timeout=0.3).exception(60)
                if error and error.code() is UNAVAILABLE:
                    told.append(dict(error.trailing_metadata()))
            return bool(told)

        until(is_told, "a refusal in time")
        assert told[0]["reason"] == "too_slow"
        assert int(told[0]["retry-after"]) >= 1
        busy[-1].cancel()


def test_what_was_accepted_is_answered_after_sigterm_and_nothing_new_is(models_dir: Path) -> None:
    settings = {"decode_workers": 1, "drain_delay_s": 3.0, "grace_period_s": 30}
    with running(models_dir, grpc_port=0, **settings) as server, asked(server) as channel:
        call = infer(channel).future(slow(32), timeout=60)
        queued(server, 32)
        with triton.InferenceServerClient(grpc_address(server)) as speaker:
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not speaker.is_server_ready(), "readiness to fail")
            assert not speaker.is_model_ready("tiny")
            assert speaker.is_server_live()
        assert len(call.result().raw_output_contents) == 6
        assert server.ended() == 0
        status, *_ = refused(lambda: infer(channel)(ONE, timeout=30))
        assert status is UNAVAILABLE
    assert codes(server) == {200: "OK"}
    assert not [line for line in server.stderr if "ready at" not in line]


def test_the_grace_period_ends_what_takes_longer(models_dir: Path) -> None:
    leave = threading.Event()
    with running(models_dir, grpc_port=0, grace_period_s=1) as server, asked(server) as channel:
        streamed = channel.stream_unary(INFER, ModelInferRequest.SerializeToString)
        call = streamed.future(silent(leave), timeout=60)
        queued(server, 1)
        assert server.stop() == 0
        assert call.exception().code() in (UNAVAILABLE, grpc.StatusCode.CANCELLED)
        leave.set()
    assert codes(server) == {499: "CANCELLED"}
    assert not [line for line in server.stderr if "ready at" not in line]


def test_who_asks_twice_does_not_wait_for_calls(models_dir: Path) -> None:
    leave = threading.Event()
    with running(models_dir, grpc_port=0, grace_period_s=600) as server, asked(server) as channel:
        streamed = channel.stream_unary(INFER, ModelInferRequest.SerializeToString)
        call = streamed.future(silent(leave), timeout=600)
        queued(server, 1)
        server.process.send_signal(signal.SIGINT)
        stopping = "Waiting for application shutdown."
        until(lambda: any(line["event"] == stopping for line in server.log_lines()), "the end")
        assert server.stop(signal.SIGINT) == 0
        assert call.exception() is not None
        leave.set()
    assert not [line for line in server.stderr if "ready at" not in line]


def test_several_workers_answer_on_one_port(models_dir: Path) -> None:
    def busy() -> set[int]:
        return {line["pid"] for line in server.log_lines() if line.get("route") == INFER}

    def ask() -> bool:
        """Over a connection of its own, which any of the workers may take."""
        with alone(server) as channel:
            assert infer(channel)(ONE, timeout=30).outputs
        return len(busy()) == 2

    with running(models_dir, grpc_port=0, workers=2) as server:
        until(ask, "both workers to be asked")
        assert server.stop() == 0


def test_limits_beyond_grpcs_own_numbers_do_not_stop_the_start(models_dir: Path) -> None:
    bytes_ = {"max_request_bytes": 3_000_000_000, "max_queue_bytes": 4_000_000_000}
    settings = {"max_queue": 10**10, "keep_alive_s": 86_400, "header_timeout_s": 3600}
    with (
        running(models_dir, grpc_port=0, **bytes_, **settings) as server,
        asked(server) as channel,
    ):
        assert infer(channel)(ONE, timeout=30).outputs


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_another_has_stops_the_start(models_dir: Path, workers: int) -> None:
    with running(models_dir, grpc_port=0) as server:
        other = grpc_address(server).rpartition(":")[2]
        refused = spawn(environment(models_dir, grpc_port=other, workers=workers))
        assert refused.ended() == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        again = spawn(environment(models_dir, grpc_port=port, workers=workers))
        assert again.ended() == 1
    for one in (refused, again):
        assert one.stderr[-1].startswith("superbin: cannot listen on 127.0.0.1, port ")
        assert "Address already in use; name another with SUPERBIN_GRPC_PORT" in one.stderr[-1]
        assert not one.stdout  # the model was not loaded in vain


def test_a_port_of_before_can_be_had_again_at_once(models_dir: Path) -> None:
    with running(models_dir, grpc_port=0) as server, asked(server) as channel:
        assert infer(channel)(ONE, timeout=30).outputs
        port = grpc_address(server).rpartition(":")[2]
        assert server.stop() == 0
        with running(models_dir, grpc_port=port) as again:
            assert infer(channel)(ONE, timeout=30, wait_for_ready=True).outputs
            assert grpc_address(again) == grpc_address(server)


def test_what_is_asked_for_and_not_installed_stops_the_start(models_dir: Path) -> None:
    hide = "import sys; sys.modules['grpc'] = None; from service.cli import main; main()"
    server = spawn(
        environment(models_dir, grpc_port=0), command=[sys.executable, "-c", hide, "serve"]
    )
    assert server.ended() == 1
    assert (
        "SUPERBIN_GRPC_PORT needs grpc, which is not installed: .venv/bin/pip install"
        in (server.stderr[-1])
    )
    assert ".[grpc]" in server.stderr[-1]
    with_none = [sys.executable, "-c", hide, "--version"]
    assert spawn(environment(models_dir), command=with_none).ended() == 0


@contextmanager
def alone(server: Server) -> Iterator[grpc.Channel]:
    """Over a connection that it shares with no other channel."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(grpc_address(server), options) as channel:
        yield channel


def test_connections_are_limited(models_dir: Path) -> None:
    limits = {"max_connections": 4, "header_timeout_s": 600, "keep_alive_s": 600}
    with running(models_dir, grpc_port=0, **limits) as server, ExitStack() as held:
        channels = [held.enter_context(alone(server)) for _ in range(4)]
        for channel in channels:
            assert infer(channel)(ONE, timeout=30).outputs
        with alone(server) as more:
            status, *_ = refused(lambda: infer(more)(ONE, timeout=30))
            assert status is UNAVAILABLE
            assert infer(channels[0])(ONE, timeout=30).outputs
            channels.pop().close()
            assert infer(more)(ONE, timeout=30, wait_for_ready=True).outputs


def test_connections_that_are_idle_are_closed(models_dir: Path) -> None:
    limits = {"header_timeout_s": 600, "keep_alive_s": 1}
    with running(models_dir, grpc_port=0, **limits) as server, alone(server) as channel:
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        assert infer(channel)(ONE, timeout=30).outputs
        ready = grpc.ChannelConnectivity.READY
        until(lambda: ready in states and states[-1] is not ready, "the connection to be closed")
        assert infer(channel)(ONE, timeout=30).outputs


def test_connections_that_say_nothing_are_closed(models_dir: Path) -> None:
    limits = {"header_timeout_s": 0.5, "keep_alive_s": 600}
    with running(models_dir, grpc_port=0, **limits) as server:
        host, port = grpc_address(server).split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            while connection.recv(1000):
                pass


def test_http_alone_has_no_such_port(models_dir: Path) -> None:
    with running(models_dir) as server:
        assert not any("gRPC" in line for line in server.stderr)
        assert SERVICE not in metrics(server)
