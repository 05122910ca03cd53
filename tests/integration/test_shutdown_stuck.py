"""The end, and readiness, where something never returns: a session, a load, a store, a process."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from service.bundle import MANIFEST
from service.last_resort import CUT_SHORT
from tests.integration.reviewing import review_settings
from tests.integration.server import ROOT, Server, running, until
from tests.photo_factory import encode, quarters
from tests.tiny_bundle import write_bundle

PHOTO = (Path(__file__).parent.parent / "photos" / "glass.jpg").read_bytes()


def ask(server: Server, photo: bytes = PHOTO) -> int:
    return httpx.post(f"{server.url}/v1/classify", files={"file": photo}, timeout=30).status_code


@contextmanager
def hung(
    models_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int = 1
) -> Iterator[Server]:
    """A server that has answered one photo, and on the next one hangs in each of its sessions."""
    hold = folder / "hold"
    monkeypatch.setenv("HOLD", str(hold))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = (sys.executable, str(Path(__file__).parent / "hung_service.py"))
    settings = {
        "tally_url": f"sqlite:///{folder}/counts.db",
        "tally_interval_s": 3600,
        "timeout_s": 2,
        "stuck_s": 2.5,
        "grace_period_s": 1,
    }
    with running(models_dir, command=command, workers=workers, **settings) as server:
        until(lambda: ready(server) == workers, "every worker")
        assert ask(server) == 200
        hold.touch()
        assert ask(server) == 504
        yield server


def ready(server: Server) -> int:
    return len([line for line in server.log_lines() if line["event"] == "ready"])


def check_told(server: Server) -> None:
    """One line says what was waited for."""
    (line,) = [one for one in server.log_lines() if one["event"].startswith("stopped by force")]
    assert line["level"] == "error"
    assert any(one.startswith("infer-") and "batching.py" in one for one in line["threads"]), line


def test_a_service_whose_session_never_returns_is_not_ready(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered(path: str) -> int:
        return httpx.get(f"{server.url}{path}", timeout=30).status_code

    with hung(models_dir, tmp_path, monkeypatch) as server:
        until(lambda: answered("/readyz") == 503, "what does not end is noticed")
        assert "does not end" in httpx.get(f"{server.url}/readyz").json()["detail"]
        assert answered("/v2/health/ready") == 503
        assert answered("/v2/models/tiny/ready") == 503
        assert answered("/livez") == 200
        assert "superbin_ready 0.0" in httpx.get(f"{server.url}/metrics").text


def test_a_session_that_never_returns_does_not_keep_the_service_from_ending(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hung(models_dir, tmp_path, monkeypatch) as server:
        assert server.stop() == CUT_SHORT
        check_told(server)
    counts = sqlite3.connect(tmp_path / "counts.db")  # which were written nevertheless
    assert counts.execute("SELECT sum(photos) FROM composition_counts").fetchone() == (1,)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_twice_ends_it_where_a_session_never_returns(
    models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    with hung(models_dir, tmp_path, monkeypatch, workers) as server:
        server.process.send_signal(signal.SIGINT)
        stopping = "Waiting for application shutdown."
        until(lambda: any(one["event"] == stopping for one in server.log_lines()), "the end")
        assert server.stop(signal.SIGINT) == CUT_SHORT
        check_told(server)
    assert not any("Traceback" in line for line in server.stderr + server.stdout)


def test_a_worker_that_hears_no_signal_is_killed(models_dir: Path) -> None:
    with running(models_dir, workers=2) as server:
        until(lambda: ready(server) == 2, "both workers")
        pid = min(line["pid"] for line in server.log_lines() if line["event"] == "ready")
        os.kill(pid, signal.SIGSTOP)
        server.process.send_signal(signal.SIGINT)
        until(lambda: any(one["event"] == "stopped" for one in server.log_lines()), "the other")
        assert server.stop(signal.SIGINT) == CUT_SHORT
        (line,) = [one for one in server.log_lines() if one["event"].startswith("worker killed")]
        assert line["pid"] == pid


def test_a_load_that_never_ends_does_not_keep_the_service_from_ending(tmp_path: Path) -> None:
    """The manifest of a version that comes later is a pipe that says nothing."""
    write_bundle(tmp_path)
    pipes: list[int] = []
    with running(tmp_path, watch_s=0.1, grace_period_s=1) as server:
        manifest = write_bundle(tmp_path / "later", version="2") / MANIFEST
        manifest.unlink()
        os.mkfifo(manifest)
        served = manifest.parent.rename(tmp_path / "tiny" / "2")

        def is_read() -> bool:
            with suppress(OSError):  # until there is somebody who reads
                pipes.append(os.open(served / MANIFEST, os.O_WRONLY | os.O_NONBLOCK))
            return bool(pipes)

        until(is_read, "the load")
        assert ask(server) == 200
        assert server.stop() == 0
        for pipe in pipes:
            os.close(pipe)
        lines = server.log_lines()
    assert any(one["event"] == "stopped" for one in lines)
    (line,) = [one for one in lines if one["event"] == "stopped while loading"]
    assert any("bundle.py" in one for one in line["threads"]), line


def test_a_locked_review_store_does_not_keep_the_service_from_ending(
    models_dir: Path, tmp_path: Path
) -> None:
    """A try to write takes 10 s then, which many photos would add up."""
    photos = [encode(quarters(60 + 10 * seed, 60), "PNG") for seed in range(6)]
    with running(models_dir, grace_period_s=1, **review_settings(tmp_path)) as server:
        lock = sqlite3.connect(tmp_path / "review.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        assert [ask(server, photo) for photo in photos] == [200] * len(photos)
        assert server.stop() == 0
        lock.close()
        (line,) = [
            one for one in server.log_lines() if one["event"].startswith("review photos lost")
        ]
        assert 0 < line["photos"] <= len(photos)
