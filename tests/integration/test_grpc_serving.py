"""Where gRPC listens, to how many connections, and how it starts and stops."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc.service_pb2 import ModelInferRequest

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
from tests.integration.inference import grpc_address
from tests.integration.server import Server, environment, running, spawn, until


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
