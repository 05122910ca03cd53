"""Twice as many photos as the service can answer, for a minute: what is answered, what is refused.

The rate is held whatever the service does (an open loop), by h2load (Debian's nghttp2-client): one
in Python would take more of the cores that both share.

    .venv/bin/python -m tests.benchmarks.overload --seconds 60
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from tests.benchmarks.serving import load
from tests.integration.server import ROOT, running

PHOTOS = sorted((ROOT / "tests" / "photos").glob("*.jpg"))
PEAK_CONNECTIONS = 16
# More connections than the queue holds, so that each of them can always ask in its turn.
GENERATORS, CLIENTS = 80, 5
PROBE_S = 0.2


@dataclass(frozen=True)
class Answer:
    """Status (0: no answer), seconds that it took, and when it was asked for."""

    status: int
    seconds: float
    asked: float


def flood(url: str, rate: float, seconds: int, timeout_s: float) -> list[Answer]:
    """Ask at an even rate and gather what comes.

    The clients of one h2load all ask at the same moments, so there are many of few clients, which
    begin one after the other.
    """
    each = rate / GENERATORS / CLIENTS
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(number) for number in range(GENERATORS)]
        processes = []
        for number, log in enumerate(logs):
            photo = PHOTOS[number % len(PHOTOS)]
            command = [
                *("h2load", "--h1", "-t1", f"-c{CLIENTS}", f"-D{seconds}", f"-d{photo}"),
                *("-H", "content-type: image/jpeg", "-H", f"x-request-timeout: {timeout_s}"),
                *(f"--rps={each:.4f}", f"--log-file={log}", url),
            ]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
            time.sleep(1 / each / GENERATORS)
        for process in processes:
            process.wait()
        lines = [line.split("\t") for log in logs for line in log.read_text().splitlines()]
    return [
        Answer(max(0, int(status)), int(us) / 1e6, int(start) / 1e6) for start, status, us in lines
    ]


def probe(url: str, timeout_s: float, end: float, refusals: list[bool]) -> None:
    """Ask now and then, and note of each refusal whether it says when to come back."""
    with httpx.Client(timeout=30) as client:
        while time.monotonic() < end:
            headers = {"content-type": "image/jpeg", "x-request-timeout": str(timeout_s)}
            answer = client.post(url, content=PHOTOS[0].read_bytes(), headers=headers)
            if answer.status_code == 503:
                refusals.append("retry-after" in answer.headers)
            time.sleep(PROBE_S)


def measure_peak(url: str) -> list[float]:
    """Photos a second where nobody is refused."""
    found = [load(url, PHOTOS, PEAK_CONNECTIONS, 6) for _ in range(3)]
    return [one["requests"] / one["seconds"] for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument("--timeout", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    models = ROOT / "models"
    with running(models, model="refuse", device=asked.device, log_level="warning") as server:
        url = f"{server.url}/v1/classify"
        load(url, PHOTOS, PEAK_CONNECTIONS, 3)
        peaks = measure_peak(url)
        peak = statistics.median(peaks)
        rate = asked.factor * peak
        refusals: list[bool] = []
        prober = threading.Thread(
            target=probe, args=(url, asked.timeout, time.monotonic() + asked.seconds, refusals)
        )
        prober.start()
        answers = flood(url, rate, asked.seconds, asked.timeout)
        prober.join()
        peak = statistics.median([*peaks, *measure_peak(url)])  # before and after: machines drift
    # Only the time in which all of the generators were at work.
    began = min(a.asked for a in answers) + GENERATORS * CLIENTS / rate
    took = asked.seconds - GENERATORS * CLIENTS / rate
    answers = [a for a in answers if began <= a.asked < began + took]
    good = [a.seconds for a in answers if a.status == 200]
    refused = [a.seconds for a in answers if a.status == 503]
    late = sum(a.status == 504 for a in answers)
    goodput = len(good) / took
    print(f"peak, {PEAK_CONNECTIONS} connections: {peak:.0f} photos/s; asked: {rate:.0f}/s")
    print(f"came: {len(answers) / took:.0f}/s, within {took:.1f} s")
    print(f"answered: {goodput:.0f}/s, {goodput / peak:.0%} of the peak")
    print(f"answered within: p50 {1e3 * np.median(good):.0f} ms, p99 {_p99(good):.0f} ms")
    p50, p99 = 1e3 * np.median(refused), _p99(refused)
    print(f"refused: {len(refused)}, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    print(f"with Retry-After: {sum(refusals)} of {len(refusals)} looked at")
    print(f"late (504): {late}; anything else: {len(answers) - len(good) - len(refused) - late}")


def _p99(seconds: list[float]) -> float:
    return 1e3 * float(np.percentile(seconds, 99))


if __name__ == "__main__":
    main()
