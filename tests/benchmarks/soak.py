"""Mixed traffic for ten minutes, good and hostile: no 500, no leak, no wrong answer.

.venv/bin/python -m tests.benchmarks.soak --minutes 10
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.benchmarks.readiness import resident_mb
from tests.integration.server import ROOT, Server, running
from tests.photo_factory import BOMBS

PHOTOS = {file.name: file.read_bytes() for file in sorted((ROOT / "tests/photos").glob("*.jpg"))}
HOSTILE = {name: make() for name, make in BOMBS.items()}
FLOOD = 200_000_000
LARGE, MANY = b"no photo" * 200_000, 30
MODEL = "refuse"
WARM_SHARE = 0.2  # of the time, before memory is measured
TOLERANCE = 1e-3
JPEG = {"content-type": "image/jpeg"}


class Traffic:
    """Everything that one run sends and finds."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.client = httpx.Client(base_url=server.url, timeout=60)
        self.statuses: dict[str, Counter[int]] = defaultdict(Counter)
        self.wrong: list[str] = []
        self.address = (urlsplit(server.url).hostname or "", urlsplit(server.url).port or 80)

    def note(self, kind: str, response: httpx.Response, *expected: int) -> httpx.Response:
        self.statuses[kind][response.status_code] += 1
        if response.status_code not in (*expected, 503):
            self.wrong.append(f"{kind}: {response.status_code} {response.text[:200]}")
        return response

    def compare(self, kind: str, result: dict[str, Any], lone: dict[str, Any]) -> None:
        gaps = [
            abs(result["probabilities"][name] - lone["probabilities"][name])
            for name in lone["probabilities"]
        ]
        if result["superclass"] != lone["superclass"] or max(gaps) > TOLERANCE:
            self.wrong.append(f"{kind}: {result['filename']} differs from its lone answer")

    def good(self, lone: dict[str, Any]) -> None:
        names = self.random.choices(list(PHOTOS), k=self.random.choice([1, 1, 1, 3, 8, 32]))
        files = [("file", (name, PHOTOS[name])) for name in names]
        lines = self.random.random() < 0.2
        headers = {"accept": "application/x-ndjson"} if lines else {}
        response = self.client.post("/v1/classify", files=files, headers=headers)
        if self.note("good", response, 200).status_code != 200:
            return
        if lines:
            answers = sorted(map(json.loads, response.text.splitlines()), key=lambda x: x["index"])
            results = [answer["result"] for answer in answers]
        else:
            results = response.json()["results"]
        for name, result in zip(names, results, strict=True):
            self.compare("good", result, lone[name])

    def among_bad(self, lone: dict[str, Any]) -> None:
        """A bad photo beside good ones fails alone."""
        name = self.random.choice(list(PHOTOS))
        bad = self.random.choice([b"", b"text", PHOTOS[name][:500], HOSTILE["png"]])
        files = [("file", (name, PHOTOS[name])), ("file", ("bad", bad))]
        response = self.note("among bad", self.client.post("/v1/classify", files=files), 200)
        if response.status_code == 200:
            first, second = response.json()["results"]
            self.compare("among bad", first, lone[name])
            if "error" not in second:
                self.wrong.append("among bad: a bad photo was answered")

    def truncated(self, lone: dict[str, Any]) -> None:
        data = self.random.choice(list(PHOTOS.values()))
        cut = data[: self.random.randrange(1, len(data) - 400)]
        self.note(
            "truncated", self.client.post("/v1/classify", content=cut, headers=JPEG), 415, 422
        )

    def bomb(self, lone: dict[str, Any]) -> None:
        data = self.random.choice(list(HOSTILE.values()))
        response = self.client.post("/v1/classify", content=data, headers=JPEG)
        self.note("bomb", response, 413, 415, 422)

    def wrong_type(self, lone: dict[str, Any]) -> None:
        headers = {"content-type": self.random.choice(["text/plain", "application/json", "x"])}
        self.note(
            "wrong type", self.client.post("/v1/classify", content=b"x", headers=headers), 415
        )

    def hurried(self, lone: dict[str, Any]) -> None:
        files = [("file", ("x", photo)) for photo in PHOTOS.values()]
        headers = {"x-request-timeout": "0.02"}
        response = self.client.post("/v1/classify", files=files, headers=headers)
        self.note("hurried", response, 200, 504)

    def giant(self, lone: dict[str, Any]) -> None:
        if self.random.random() < 0.5:
            files = [("file", ("x", b"x"))] * 500
            self.note("giant", self.client.post("/v1/classify", files=files), 413)
            return
        with socket.create_connection(self.address, timeout=60) as connection:
            connection.sendall(self.head("Content-Length: 9000000000"))
            self.statuses["giant"][int(connection.recv(12).split()[1])] += 1

    def large(self, lone: dict[str, Any]) -> None:
        """Many files at once of which none is a photo; nothing of them may stay in memory."""
        files = [("file", ("x", LARGE))] * MANY
        self.note("large", self.client.post("/v1/classify", files=files), 200)

    def slow(self, lone: dict[str, Any]) -> None:
        name = self.random.choice(list(PHOTOS))
        data = PHOTOS[name]
        with socket.create_connection(self.address, timeout=60) as connection:
            connection.sendall(self.head(f"Content-Length: {len(data)}"))
            step = len(data) // 10 + 1
            with suppress(BrokenPipeError):  # refused by the headers, while this still sends
                for place in range(0, len(data), step):
                    connection.sendall(data[place : place + step])
                    time.sleep(0.05)
            self.statuses["slow"][int(connection.recv(12).split()[1])] += 1

    def flood(self, lone: dict[str, Any]) -> None:
        """Headers, or a body that was refused, that have no end: the server must make one."""
        with socket.create_connection(self.address, timeout=60) as connection:
            if self.random.random() < 0.5:
                connection.sendall(self.head("Content-Length: 9000000000"))
            else:
                connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
            sent = 0
            with suppress(OSError):
                while sent < FLOOD:
                    sent += connection.send(b"x" * 1_000_000)
        self.statuses["flood"][413 if sent < FLOOD else 200] += 1
        if sent >= FLOOD:
            self.wrong.append("flood: all of it was read")

    def aborted(self, lone: dict[str, Any]) -> None:
        data = self.random.choice(list(PHOTOS.values()))
        with socket.create_connection(self.address, timeout=60) as connection:
            connection.sendall(self.head(f"Content-Length: {len(data)}") + data[: len(data) // 2])
        self.statuses["aborted"][499] += 1

    def head(self, framing: str) -> bytes:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n{framing}"
        return f"{head}\r\nConnection: close\r\n\r\n".encode()


KINDS: list[Callable[[Traffic, dict[str, Any]], None]] = [
    *[Traffic.good] * 8,
    Traffic.among_bad,
    Traffic.truncated,
    Traffic.bomb,
    Traffic.wrong_type,
    Traffic.hurried,
    Traffic.giant,
    Traffic.large,
    Traffic.slow,
    Traffic.aborted,
    Traffic.flood,
]


def keep_on(traffic: Traffic, lone: dict[str, Any], end: float) -> None:
    while time.monotonic() < end:
        kind = traffic.random.choice(KINDS)
        try:
            kind(traffic, lone)
        except (httpx.HTTPError, OSError, IndexError, ValueError) as error:
            traffic.wrong.append(f"{kind.__name__}: {type(error).__name__} {error}")


def lone_answers(client: httpx.Client) -> dict[str, Any]:
    found = {}
    for name, data in PHOTOS.items():
        response = client.post("/v1/classify", content=data, headers=JPEG)
        found[name] = response.raise_for_status().json()["results"][0]
    return found


def descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=6)
    asked = parser.parse_args()
    with running(ROOT / "models", model=MODEL, log_level="warning", body_timeout_s=5) as server:
        pid = server.process.pid
        with httpx.Client(base_url=server.url, timeout=60) as client:
            lone = lone_answers(client)
        end = time.monotonic() + 60 * asked.minutes
        traffics = [Traffic(server, seed) for seed in range(asked.clients)]
        threads = [
            threading.Thread(target=keep_on, args=(one, lone, end), daemon=True) for one in traffics
        ]
        for thread in threads:
            thread.start()
        samples: list[tuple[float, int]] = []
        warm = end - 60 * asked.minutes * (1 - WARM_SHARE)
        while any(thread.is_alive() for thread in threads):
            time.sleep(1.0)
            if time.monotonic() > warm:
                samples.append((resident_mb(pid), descriptors(pid)))
        with httpx.Client(base_url=server.url, timeout=60) as client:
            after = lone_answers(client)
            metrics = client.get("/metrics").text
    _report(traffics, samples, after == lone, metrics)


def _report(
    traffics: list[Traffic], samples: list[tuple[float, int]], same: bool, metrics: str
) -> None:
    totals: dict[str, Counter[int]] = defaultdict(Counter)
    for traffic in traffics:
        for kind, counts in traffic.statuses.items():
            totals[kind] += counts
    for kind, counts in sorted(totals.items()):
        print(f"{kind:12} {dict(sorted(counts.items()))}")
    quarter = max(1, len(samples) // 4)
    means = [
        sum(mb for mb, _ in samples[place : place + quarter]) / quarter
        for place in range(0, quarter * 4, quarter)
    ]
    print(f"memory, MB, mean of each quarter after warm-up: {', '.join(f'{m:.0f}' for m in means)}")
    print(f"memory from the first of these to the last: {means[-1] / means[0] - 1:+.1%}")
    print(f"memory at most: {max(mb for mb, _ in samples):.0f} MB")
    files = [count for _, count in samples]
    print(
        f"file descriptors: {files[0]} after warm-up, {files[-1]} at the end, {max(files)} at most"
    )
    print(f"lone answers before and after are the same: {same}")
    print(f"queue empty at the end: {'superbin_queue_photos 0.0' in metrics}")
    wrong = [one for traffic in traffics for one in traffic.wrong]
    print(f"wrong: {len(wrong)}")
    for one in wrong[:20]:
        print(f"  {one}")


if __name__ == "__main__":
    main()
