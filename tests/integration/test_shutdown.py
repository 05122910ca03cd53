"""The end under load: what was accepted is answered."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import uvicorn

from service.bundle import MANIFEST
from service.protocol import Guard
from service.server import Server
from service.settings import Settings
from tests.integration.asking import JPEG, connect
from tests.integration.server import ROOT, environment, running, spawn, until
from tests.tiny_bundle import write_bundle

PHOTO = (Path(__file__).parent.parent / "photos" / "glass.jpg").read_bytes()
CLIENTS = 8


@pytest.mark.parametrize(
    ("workers", "sig"), [(1, signal.SIGTERM), (2, signal.SIGTERM), (1, signal.SIGHUP)]
)
def test_nothing_that_was_accepted_is_lost_to_a_signal(
    models_dir: Path, workers: int, sig: signal.Signals
) -> None:
    """Clients behave like a load balancer: they send until readiness fails."""
    found: Counter[str] = Counter()
    with running(models_dir, workers=workers, drain_delay_s=1.0, grace_period_s=20) as server:
        leave = threading.Event()

        def keep_asking() -> None:
            with httpx.Client(base_url=server.url, timeout=30) as client:
                while not leave.is_set():
                    try:
                        code = client.post("/v1/classify", files={"file": PHOTO}).status_code
                        found[str(code)] += 1
                    except httpx.HTTPError as error:
                        found[repr(error)] += 1

        threads = [threading.Thread(target=keep_asking) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            until(lambda: found["200"] > CLIENTS, "the load")
            server.process.send_signal(sig)
            until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, "readiness to fail")
        finally:
            leave.set()
            for thread in threads:
                thread.join()
        assert server.ended() == 0
    assert set(found) == {"200"}, found


@pytest.mark.parametrize("workers", [1, 2])
def test_by_default_a_load_balancer_sees_readiness_fail_before_it_is_refused(
    models_dir: Path, workers: int
) -> None:
    with running(models_dir, workers=workers, drain_delay_s="") as server:
        server.process.send_signal(signal.SIGTERM)
        codes = []
        with suppress(httpx.TransportError):
            while True:
                codes.append(httpx.get(f"{server.url}/readyz").status_code)
        assert codes[-1] == 503
        assert server.ended() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_does_not_wait_for_load_balancers(models_dir: Path, workers: int) -> None:
    with running(models_dir, workers=workers, drain_delay_s=3600) as server:
        assert server.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_tell_that_their_connection_ends_before_the_port_closes(
    models_dir: Path, workers: int
) -> None:
    """Or what a client sends over it would be lost, where the end and it pass each other."""
    with (
        running(models_dir, workers=workers, drain_delay_s=3600) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        answer = client.post("/v1/classify", content=PHOTO, headers=JPEG)
        assert "connection" not in answer.headers
        server.process.send_signal(signal.SIGTERM)
        until(lambda: client.get("/readyz").headers.get("connection") == "close", "the end")
        answer = client.post("/v1/classify", content=PHOTO, headers=JPEG)
        assert answer.status_code == 200
        server.process.send_signal(signal.SIGTERM)  # which does not wait for the delay
        assert server.ended() == 0


def test_a_client_whose_answer_had_begun_may_ask_once_more(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines that go on while the port closes began before anybody could say that they are last."""
    hold = tmp_path / "hold"
    monkeypatch.setenv("HOLD", str(hold))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = (sys.executable, str(Path(__file__).parent / "hung_service.py"))
    opening = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PHOTO)}\r\n"
    photo = f"{opening}Content-Type: image/jpeg\r\nAccept: application/x-ndjson\r\n\r\n"
    with (
        running(models_dir, command=command, grace_period_s=30) as server,
        httpx.Client(base_url=server.url) as client,
        connect(client) as connection,
    ):
        hold.touch()
        connection.sendall(photo.encode() + PHOTO)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            client.close()
            server.process.send_signal(signal.SIGTERM)
            until(lambda: _is_refused(server.url), "the port to close")
            hold.unlink()
            assert json.loads(answer.read())["index"] == 0
            assert answer.headers["connection"] is None
        connection.sendall(photo.encode() + PHOTO)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            assert json.loads(answer.read())["index"] == 0
            assert answer.headers["connection"] == "close"
        assert server.ended() == 0


def _is_refused(url: str) -> bool:
    try:
        httpx.get(f"{url}/livez")
    except httpx.TransportError as error:  # reset, where it stood before the port as that closed
        return isinstance(error, httpx.ConnectError)
    return False


@pytest.mark.parametrize("path", ["/v1/classify", "/v2/models/tiny/infer"])
def test_what_the_grace_period_cuts_off_is_told_so(models_dir: Path, path: str) -> None:
    """Half of a body is here, and the rest never comes."""
    with (
        running(models_dir, grace_period_s=1, body_timeout_s=600) as server,
        httpx.Client(base_url=server.url) as client,
        connect(client) as connection,
    ):
        opening = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
        connection.sendall(f"{opening}Content-Length: 1000\r\n\r\n{{".encode())
        until(lambda: "superbin_queue_photos 1.0" in client.get("/metrics").text, "admission")
        client.close()
        server.process.send_signal(signal.SIGTERM)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert json.load(answer)["reason"] == "stopping"
        assert server.ended() == 0
    assert [line["code"] for line in server.log_lines() if line.get("method") == "POST"] == [503]
    assert not any("Exception in ASGI" in line["event"] for line in server.log_lines())


@pytest.mark.parametrize(
    ("workers", "sig"),
    [(1, signal.SIGINT), (1, signal.SIGTERM), (1, signal.SIGHUP), (2, signal.SIGTERM)],
)
def test_a_signal_while_a_model_loads_ends_it_at_once(
    tmp_path: Path, workers: int, sig: signal.Signals
) -> None:
    """The manifest is a pipe that says nothing: a load that never ends."""
    manifest = write_bundle(tmp_path) / MANIFEST
    manifest.unlink()
    os.mkfifo(manifest)
    server = spawn(environment(tmp_path, workers=workers))
    pipes: list[int] = []

    def is_read() -> bool:
        with suppress(OSError):  # until there is somebody who reads
            pipes.append(os.open(manifest, os.O_WRONLY | os.O_NONBLOCK))
        return bool(pipes)

    try:
        until(is_read, "the load")
        assert server.stop(sig) == 0
    finally:
        server.process.kill()
        for pipe in pipes:
            os.close(pipe)
    assert "Traceback" not in "".join(server.stderr)
    assert any(line["event"] == "stopped while starting" for line in server.log_lines())


def test_nohup_keeps_it_when_the_terminal_closes(models_dir: Path) -> None:
    command = ("nohup", sys.executable, "-m", "service")
    with running(models_dir, command=command) as server:
        server.process.send_signal(signal.SIGHUP)
        answer = httpx.post(f"{server.url}/v1/classify", files={"file": PHOTO}, timeout=30)
        assert answer.status_code == 200
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert server.stop() == 0


def test_a_server_that_was_killed_starts_again_as_if_nothing_had_been(models_dir: Path) -> None:
    server = spawn(environment(models_dir))
    until(lambda: any("ready at" in line for line in server.stderr), "the start")
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    with running(models_dir) as again:
        answer = httpx.post(f"{again.url}/v1/classify", files={"file": PHOTO}, timeout=30)
        assert answer.status_code == 200


def test_a_signal_touches_nothing_that_a_request_may_be_in_the_middle_of(models_dir: Path) -> None:
    """It comes between any two steps, while a metric's lock is held for example."""
    told: list[bool] = []
    settings = Settings(models_dir=models_dir, drain_delay_s=0)
    state = SimpleNamespace(serving=SimpleNamespace(set_ready=told.append))
    config = uvicorn.Config("none:app", log_config=None)
    guard = Guard(60.0, 65_536, 10, 60.0, lambda reason: None)
    server = Server(config, settings, guard, state, lambda: None)
    server.handle_exit(signal.SIGTERM, None)
    assert told == []
    config.encoded_headers = []
    asyncio.run(server.on_tick(1))
    assert told == [False]
    assert guard.stopping
    assert server.should_exit
