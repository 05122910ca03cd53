"""Several workers: one port, one scrape, and none that is missed when it ends."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.keys import digest_of
from tests.integration.server import Server, environment, running, spawn, until
from tests.tiny_bundle import write_bundle

PHOTO = (Path(__file__).parent.parent / "photos" / "glass.jpg").read_bytes()
WORKERS = 2
ANSWERED = "superbin_requests_total"


def pids(server: Server) -> set[int]:
    return {line["pid"] for line in server.log_lines() if line["event"] == "ready"}


def ask(server: Server) -> int:
    """Over a connection of its own, which any of the workers may take."""
    return httpx.post(f"{server.url}/v1/classify", files={"file": PHOTO}, timeout=30).status_code


def scrape(server: Server) -> dict[str, float]:
    """The sums over the labels of each name."""
    found: Counter[str] = Counter()
    families = text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
    for family in families:
        for sample in family.samples:
            route = sample.labels.get("route", "/v1/classify")
            found[sample.name] += sample.value * (route == "/v1/classify")
    return found


def busy(server: Server) -> set[int]:
    return {line["pid"] for line in server.log_lines() if line.get("route") == "/v1/classify"}


def until_both_have_answered(server: Server) -> int:
    """Requests that this took."""
    asked = 0

    def both() -> bool:
        nonlocal asked
        assert ask(server) == 200
        asked += 1
        return len(busy(server)) == WORKERS

    until(both, "both workers to be asked")
    return asked


def test_any_worker_tells_of_all_of_them(models_dir: Path) -> None:
    with running(models_dir, workers=WORKERS) as server:
        assert len(pids(server)) == WORKERS
        asked = until_both_have_answered(server)
        for _ in range(20):
            found = scrape(server)
            assert found[ANSWERED] == found["superbin_predictions_total"] == asked
            assert found["superbin_model_info"] == WORKERS
            assert found["superbin_ready"] == 1
        assert found["process_resident_memory_bytes"] > WORKERS * 50e6
        assert found["process_open_fds"] > WORKERS * 10


def test_queues_are_added_up(models_dir: Path) -> None:
    hold = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    with running(models_dir, workers=WORKERS) as server:
        url = httpx.URL(server.url)
        held = [socket.create_connection((url.host, url.port or 0)) for _ in range(6)]
        for connection in held:
            connection.sendall(hold + b"Content-Length: 1000\r\n\r\nx")
        until(lambda: scrape(server)["superbin_queue_photos"] == 6, "the queues of both")
        for connection in held:
            connection.close()
        until(lambda: scrape(server)["superbin_queue_photos"] == 0, "their end")


def test_the_others_serve_on_when_one_is_killed_and_another_takes_its_place(
    models_dir: Path,
) -> None:
    found: Counter[str] = Counter()
    with running(models_dir, workers=WORKERS) as server:
        first = pids(server)
        asked = until_both_have_answered(server)
        leave = threading.Event()

        def keep_asking() -> None:
            while not leave.is_set():
                try:
                    found[str(ask(server))] += 1
                except httpx.HTTPError as error:
                    found[type(error).__name__] += 1

        threads = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: found["200"] > 4, "the load")
        killed = min(first)
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(pids(server)) == WORKERS + 1, "another worker")
        before = found["200"]
        until(lambda: found["200"] > before + 20, "more answers")
        leave.set()
        for thread in threads:
            thread.join()
        lost = sum(found.values()) - found["200"]
        assert lost <= 4, found  # what it was working on: one request of each client at most
        assert "503" not in found
        (line,) = [line for line in server.log_lines() if line["event"] == "worker ended"]
        assert (line["pid"], line["status"]) == (killed, -signal.SIGKILL)
        told = scrape(server)
        assert told["superbin_model_info"] == WORKERS
        # What the killed one counted is not forgotten, and no answer is counted twice.
        assert asked + found["200"] - lost <= told[ANSWERED] <= asked + sum(found.values())
        assert server.stop() == 0


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_or_a_closed_terminal_ends_them_in_good_order_and_leaves_nothing(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sig: signal.Signals
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with running(models_dir, workers=WORKERS) as server:
        assert list(tmp_path.glob("superbin-metrics-*"))
        assert server.stop(sig) == 0
        stopped = [line for line in server.log_lines() if line["event"] == "stopped"]
        assert len(stopped) == WORKERS
    assert not any("Traceback" in line for line in server.stderr)
    assert not list(tmp_path.iterdir())


def test_nohup_keeps_them_when_the_terminal_closes(models_dir: Path) -> None:
    command = ("nohup", sys.executable, "-m", "service")
    with running(models_dir, workers=WORKERS, command=command) as server:
        server.process.send_signal(signal.SIGHUP)
        os.kill(min(pids(server)), signal.SIGKILL)
        until(lambda: len(pids(server)) == WORKERS + 1, "a worker to be replaced")
        assert server.stop() == 0


def test_workers_do_not_outlive_their_parent(models_dir: Path) -> None:
    with running(models_dir, workers=WORKERS) as server:
        server.process.kill()
        server.ended()  # what it waits for is the end of all that can write to its pipes
        stopped = [line for line in server.log_lines() if line["event"] == "stopped"]
        assert len(stopped) == WORKERS


def test_what_a_killed_parent_left_is_removed_by_the_next_start_once_its_workers_have_ended(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def start_another() -> list[Path]:
        """One that fails, so that it leaves nothing itself."""
        assert spawn(environment(models_dir, workers=WORKERS, model="missing")).ended() == 1
        return list(tmp_path.iterdir())

    with running(models_dir, workers=WORKERS, drain_delay_s=3600) as server:
        (left,) = tmp_path.iterdir()
        assert start_another() == [left]
        server.process.kill()
        server.process.wait()
        until(lambda: httpx.get(f"{server.url}/readyz").status_code == 503, "the workers to know")
        assert start_another() == [left]
        for pid in pids(server):
            os.kill(pid, signal.SIGKILL)
        server.ended()
        assert start_another() == []


def test_a_start_that_fails_is_told_once(models_dir: Path) -> None:
    server = spawn(environment(models_dir, workers=WORKERS, model="missing"))
    assert server.ended() == 1
    (line,) = server.stderr
    assert "no bundle" in line or "missing" in line


def test_what_would_reach_one_worker_alone_is_refused(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_bundle(models)
    (tmp_path / "keys.toml").write_text(f'[admins]\nops = "{digest_of("key")}"\n')
    with running(models, workers=WORKERS, keys_file=tmp_path / "keys.toml", watch_s=0.1) as server:
        admin = {"x-api-key": "key"}
        refused = httpx.post(f"{server.url}/v1/models/tiny/load", headers=admin)
        assert refused.status_code == 409
        assert refused.json()["reason"] == "several_workers"
        write_bundle(models, version="2", seed=5)  # the folder reaches all of them

        def versions() -> Counter[str]:
            text = httpx.get(f"{server.url}/metrics").text
            info = [f for f in text_string_to_metric_families(text) if f.name.endswith("_info")]
            return Counter({s.labels["version"]: int(s.value) for f in info for s in f.samples})

        until(lambda: versions() == {"1": 0, "2": WORKERS}, "both to serve the new version")


def test_keys_that_change_are_those_of_all_and_of_a_worker_in_the_place_of_another(
    models_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "keys.toml"
    both = {name: f'clients."{name}" = "{digest_of(name)}"\n' for name in ("kept", "leaked")}
    file.write_text("".join(both.values()))
    with running(models_dir, workers=WORKERS, keys_file=file, watch_s=0.1) as server:

        def told(event: str) -> set[int]:
            return {line["pid"] for line in server.log_lines() if line["event"] == event}

        def codes() -> set[tuple[str, int]]:
            """Over connections of their own, which any of the workers may take."""
            url, headers = f"{server.url}/v1/models", [{"x-api-key": name} for name in both]
            asked = [(one["x-api-key"], httpx.get(url, headers=one)) for one in headers * 10]
            return {(name, answer.status_code) for name, answer in asked}

        assert codes() == {("kept", 200), ("leaked", 200)}
        file.write_text(both["kept"])
        until(lambda: len(told("keys loaded")) == WORKERS, "both to take over the file")
        assert codes() == {("kept", 200), ("leaked", 401)}
        file.write_text("clients.")
        refused = "keys refused, and those of before stay in force"
        until(lambda: len(told(refused)) == WORKERS, "both to refuse the file")
        os.kill(min(pids(server)), signal.SIGKILL)
        until(lambda: len(pids(server)) == WORKERS + 1, "another worker")
        assert codes() == {("kept", 200), ("leaked", 401)}
        lines = [(one["event"], one["pid"]) for one in server.log_lines()]
        assert [lines.count((refused, pid)) for pid in pids(server)] == [1] * (WORKERS + 1)


def test_ctrl_c_while_workers_import_ends_them_without_a_traceback(models_dir: Path) -> None:
    server = spawn(environment(models_dir, workers=WORKERS), own_group=True)
    pid = server.process.pid
    until(lambda: len(spawned(pid)) == WORKERS, "the workers to be there")
    os.killpg(pid, signal.SIGINT)
    status = server.ended()
    assert server.stderr == []
    assert status == 0
    assert "Traceback" not in "".join(server.stdout)


def spawned(pid: int) -> list[str]:
    """The processes of a parent that multiprocessing has started to be workers."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            command = Path(f"/proc/{child}/cmdline")
            if command.exists() and b"spawn_main" in command.read_bytes():
                found.append(child)
    return found
