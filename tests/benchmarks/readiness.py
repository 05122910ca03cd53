"""From starting the service to its first 200 from /readyz, and the memory it then holds."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import httpx
import typer

from tests.integration.server import ROOT, running

STARTS = 5
PHOTO = ROOT / "tests" / "photos" / "metal.jpg"


def resident_mb(pid: int) -> float:
    """Resident set of a process, in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"process {pid} has no resident set")


def main() -> None:
    seconds, memory = [], []
    for _ in range(STARTS):
        started = time.perf_counter()
        with running(ROOT / "models", model="refuse") as server:
            seconds.append(time.perf_counter() - started)
            answer = httpx.post(f"{server.url}/v1/classify", files={"file": PHOTO.read_bytes()})
            answer.raise_for_status()
            memory.append(resident_mb(server.process.pid))
    print(f"{STARTS} starts of the bundled model")
    print(f"start to ready: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")
    print(f"resident after one photo: median {statistics.median(memory):.0f} MB")


if __name__ == "__main__":
    typer.run(main)
