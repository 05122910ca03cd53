"""Twice as many photos as the service can answer, for a minute: what is answered, what is refused.

The rate is held whatever the service does (an open loop), each request on a connection of its own.

    .venv/bin/python -m tests.benchmarks.overload --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from tests.benchmarks.serving import load
from tests.integration.server import ROOT, running

PHOTOS = sorted((ROOT / "tests" / "photos").glob("*.jpg"))
PEAK_CONNECTIONS = 16


@dataclass(frozen=True)
class Answer:
    """Status (0: no answer), seconds, and whether a Retry-After came."""

    status: int
    seconds: float
    retry_after: bool


def requests(timeout_s: float) -> list[bytes]:
    """One whole request for each photo."""
    found = []
    for photo in PHOTOS:
        body = photo.read_bytes()
        head = (
            "POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            f"X-Request-Timeout: {timeout_s}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        found.append(head.encode() + body)
    return found


async def ask(host: str, port: int, request: bytes) -> Answer:
    started = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        seconds = time.perf_counter() - started
        writer.close()
        return Answer(int(head.split(b" ", 2)[1]), seconds, b"retry-after" in head.lower())
    except (OSError, asyncio.IncompleteReadError):
        return Answer(0, time.perf_counter() - started, False)


async def flood(url: str, rate: float, seconds: float, timeout_s: float) -> list[Answer]:
    """Ask at an even rate and gather what comes."""
    address = urlsplit(url)
    bodies = requests(timeout_s)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    tasks = []
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
        request = bodies[number % len(bodies)]
        tasks.append(asyncio.create_task(ask(address.hostname or "", address.port or 80, request)))
    return list(await asyncio.gather(*tasks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument("--timeout", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    models = ROOT / "models"
    with running(models, model="refuse", device=asked.device, log_level="warning") as server:
        url = f"{server.url}/v1/classify"
        load(url, PHOTOS, PEAK_CONNECTIONS, 3)
        peak = statistics.median(
            found["requests"] / found["seconds"]
            for found in (load(url, PHOTOS, PEAK_CONNECTIONS, 8) for _ in range(3))
        )
        rate = asked.factor * peak
        began = time.perf_counter()
        answers = asyncio.run(flood(url, rate, asked.seconds, asked.timeout))
        took = time.perf_counter() - began
    good = [a.seconds for a in answers if a.status == 200]
    refused = [a for a in answers if a.status == 503]
    late = sum(a.status == 504 for a in answers)
    rest = len(answers) - len(good) - len(refused) - late
    goodput = len(good) / took
    print(f"peak, {PEAK_CONNECTIONS} connections: {peak:.0f} photos/s; asked: {rate:.0f}/s")
    print(f"answered: {goodput:.0f}/s, {goodput / peak:.0%} of the peak")
    print(f"answered within: p50 {1e3 * np.median(good):.0f} ms, p99 {_p99(good):.0f} ms")
    times = [a.seconds for a in refused]
    print(f"refused: {len(refused)}, p50 {1e3 * np.median(times):.1f} ms, p99 {_p99(times):.1f} ms")
    print(f"of these with Retry-After: {sum(a.retry_after for a in refused)}")
    print(f"late (504): {late}; anything else: {rest}")


def _p99(seconds: list[float]) -> float:
    return 1e3 * float(np.percentile(seconds, 99))


if __name__ == "__main__":
    main()
