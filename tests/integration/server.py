"""A real server: `python -m service` in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
READY = re.compile(r"ready at (http://\S+)")
DEADLINE_S = 30.0


@dataclass
class Server:
    """A process that serves, and what it has written so far."""

    process: subprocess.Popen[str]
    url: str = ""
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    readers: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream, lines in (
            (self.process.stdout, self.stdout),
            (self.process.stderr, self.stderr),
        ):
            assert stream is not None
            self.readers.append(threading.Thread(target=_collect, args=(stream, lines)))
            self.readers[-1].start()

    def ended(self) -> int:
        """Wait for its end and for all that it wrote, and give its exit status."""
        status = self.process.wait(DEADLINE_S)
        for reader in self.readers:
            reader.join()
        return status

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, and give its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.ended()

    def log_lines(self) -> list[dict[str, Any]]:
        """Everything that it logged, which must be JSON throughout."""
        return [json.loads(line) for line in self.stdout]


def environment(models_dir: Path, **settings: object) -> dict[str, str]:
    """The variables of a server over `models_dir`; `max_batch=4` is SUPERBIN_MAX_BATCH."""
    clean = {k: v for k, v in os.environ.items() if not k.upper().startswith("SUPERBIN_")}
    own = {"models_dir": models_dir, "model": "tiny", "port": 0, "drain_delay_s": 0} | settings
    return clean | {f"SUPERBIN_{name.upper()}": str(value) for name, value in own.items()}


COMMAND = (sys.executable, "-m", "service")


def spawn(
    variables: dict[str, str], *, own_group: bool = False, command: Sequence[str] = COMMAND
) -> Server:
    """Start a server without waiting for it; Ctrl-C is for a whole group of processes."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=own_group,
    )
    return Server(process)


def _collect(stream: IO[str], lines: list[str]) -> None:
    with stream:
        lines.extend(stream)


@contextmanager
def running(
    models_dir: Path, *, command: Sequence[str] = COMMAND, **settings: object
) -> Iterator[Server]:
    """A server that is ready, and stopped in the end."""
    server = spawn(environment(models_dir, **settings), command=command)
    try:
        until(lambda: _is_ready(server), "the server to be ready")
        yield server
    finally:
        try:
            server.stop()
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.ended()


def _is_ready(server: Server) -> bool:
    if server.process.poll() is not None:
        raise AssertionError(f"the server ended: {server.stderr} {server.stdout}")
    found = [match[1] for line in server.stderr if (match := READY.search(line))]
    if not found:
        return False
    server.url = found[0]
    return httpx.get(f"{server.url}/readyz").status_code == 200


def until(true: Any, what: str) -> None:
    """Poll until `true()`; fail after a deadline."""
    end = time.monotonic() + DEADLINE_S
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"waited {DEADLINE_S} s for {what}")
        time.sleep(0.02)
