"""What keeping photos for review costs those who wait for answers.

    python -m tests.benchmarks.review_cost [--rounds 5] [--seconds 4]

The bundled model answers the same photos with review off, with its defaults, and with every photo
kept, in turns; load and services share the machine.
"""

from __future__ import annotations

import http.client
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import typer

from tests.integration.server import ROOT, Server, running
from tests.photo_factory import noise

CONNECTIONS = 8
SETTINGS: dict[str, dict[str, object]] = {
    "off": {},
    "defaults": {"review_random_share": 0.01},
    "every photo": {"review_random_share": 1.0},
}


def measure(server: Server, seconds: float, photos: list[bytes]) -> tuple[float, float]:
    """Answers a second, and the 99th percentile of their times in milliseconds."""
    end = time.monotonic() + seconds
    times: list[float] = []

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc)
        number = first
        while (begun := time.monotonic()) < end:
            body = photos[number % len(photos)]
            connection.request("POST", "/v1/classify", body, {"Content-Type": "image/jpeg"})
            connection.getresponse().read()
            times.append(time.monotonic() - begun)
            number += CONNECTIONS
        connection.close()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(times) / seconds, 1000 * statistics.quantiles(times, n=100)[98]


def main(rounds: int = 5, seconds: float = 4.0) -> None:
    """Print the medians over rounds."""
    photos = [noise(seed, 512, 384) for seed in range(2000)]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    with ExitStack() as stack:
        servers = {}
        for name, settings in SETTINGS.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            where = {"review_url": f"sqlite:///{folder}/r.db", "review_photos": folder / "photos"}
            given = {"model": "refuse", "workers": 1} | settings | (where if settings else {})
            servers[name] = stack.enter_context(running(ROOT / "models", **given))
            measure(servers[name], 1.0, photos)
        for _ in range(rounds):
            for name, server in servers.items():
                found[name].append(measure(server, seconds, photos))
    for name, figures in found.items():
        rate, slowest = (statistics.median(one) for one in zip(*figures, strict=True))
        print(f"{name:12} {rate:6.1f} answers a second, 99 of 100 within {slowest:5.1f} ms")


if __name__ == "__main__":
    typer.run(main)
