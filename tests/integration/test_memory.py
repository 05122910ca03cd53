"""What a request brought is let go of with it, and what is freed goes back to the system."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.memory import GROWN_BYTES
from tests.benchmarks.readiness import resident_mb
from tests.integration.asking import JPEG, PHOTO, connect, files
from tests.integration.server import Server, running, until

MB = 1_000_000
GOOD = PHOTO + bytes(2 * MB)  # what comes behind a photo's end is not looked at
BAD = b"no photo" * (MB // 4)
WITHOUT_COLLECTOR = (
    sys.executable,
    "-c",
    "import gc; gc.disable(); from service.cli import main; main(['serve'])",
)
WARM, ROUNDS = 8, 40
LEAST_KEPT_MB = ROUNDS * len(BAD) / MB  # where every request left what it brought

Ask = Callable[[httpx.Client], httpx.Response]


def inference(photos: list[bytes]) -> tuple[bytes, dict[str, str]]:
    """Encoded photos by the protocol's binary extension, and the headers."""
    data = b"".join(struct.pack("<I", len(photo)) + photo for photo in photos)
    tensor = {"name": "images", "shape": [len(photos)], "datatype": "BYTES"}
    told = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]})
    return told.encode() + data, {"Inference-Header-Content-Length": str(len(told))}


def classify(*photos: bytes, accept: str = "application/json") -> Ask:
    headers = {"accept": accept}
    return lambda client: client.post("/v1/classify", files=files(*photos), headers=headers)


def infer(photo: bytes) -> Ask:
    body, headers = inference([photo])
    return lambda client: client.post("/v2/models/tiny/infer", content=body, headers=headers)


def leave(client: httpx.Client) -> httpx.Response:
    """Send a photo and be gone; then ask for something else, by when it is done."""
    head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BAD)}\r\n"
    with connect(client) as gone:
        gone.sendall(f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + BAD)
    return client.post("/v1/classify", content=PHOTO, headers=JPEG)


ASKED: dict[str, tuple[Ask, int]] = {
    "photo": (classify(GOOD), 200),
    "photos, line by line": (classify(GOOD, PHOTO, accept="application/x-ndjson"), 200),
    "raw": (lambda client: client.post("/v1/classify", content=GOOD, headers=JPEG), 200),
    "embedding": (lambda client: client.post("/v1/embed", files=files(GOOD)), 200),
    "inference": (infer(GOOD), 200),
    "no photo": (classify(BAD), 415),
    "no photo among others": (classify(PHOTO, BAD), 200),
    "no photo, line by line": (classify(PHOTO, BAD, accept="application/x-ndjson"), 200),
    "no photo, raw": (lambda client: client.post("/v1/classify", content=BAD, headers=JPEG), 415),
    "no photo, inference": (infer(BAD), 415),
    "another field": (lambda client: client.post("/v1/classify", files={"x": GOOD}), 400),
    "gone": (leave, 200),
}


@pytest.fixture(scope="module")
def uncollected(models_dir: Path) -> Iterator[Server]:
    """A server whose collector is off: what lies in a circle stays for good."""
    with running(models_dir, command=WITHOUT_COLLECTOR, log_level="warning") as server:
        yield server


@pytest.mark.parametrize("asked", ASKED)
def test_nothing_of_a_request_is_left_to_the_collector(uncollected: Server, asked: str) -> None:
    ask, status = ASKED[asked]
    pid = uncollected.process.pid
    with httpx.Client(base_url=uncollected.url, timeout=30) as client:
        for _ in range(WARM):
            assert ask(client).status_code == status
        before = resident_mb(pid)
        for _ in range(ROUNDS):
            ask(client)
        assert resident_mb(pid) - before < LEAST_KEPT_MB / 2


MANY = 4 * MB
BOMBS = {  # each would be gigabytes once it is parsed, or of its errors
    "objects": b'{"inputs":[' + b"{}," * MANY + b"{}]}",
    "outputs": b'{"inputs":[],"outputs":[' + b'{"name":"x"},' * MANY + b"{}]}",
    "lists": b'{"inputs":[{"data":[' + b"[]," * 2 * MANY + b"[]]}]}",
    "values": b'{"inputs":[{"data":[' + b"1," * 5 * MANY + b"1]}]}",
    "names": b'{"parameters":{' + b'"x":1,' * 2 * MANY + b'"x":1}}',
    "inputs": b'{"inputs":[' + b'{"":0},' * 4000 + b"0]}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_json_that_would_be_far_larger_once_parsed_is_refused(
    uncollected: Server, bomb: str
) -> None:
    pid = uncollected.process.pid
    most = max(peak_mb(pid), resident_mb(pid) + 4 * len(BOMBS[bomb]) / MB + 100)
    with httpx.Client(base_url=uncollected.url, timeout=30) as client:
        for _ in range(2):
            refused = client.post("/v2/models/tiny/infer", content=BOMBS[bomb])
            assert refused.status_code == 400
            assert len(refused.content) < 500
    assert peak_mb(pid) <= most


def peak_mb(pid: int) -> float:
    """The most that was resident so far, in megabytes."""
    (line,) = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) * 1024 / MB


def test_what_is_freed_goes_back(models_dir: Path) -> None:
    body, headers = inference([BAD] * 28)
    with (
        running(models_dir, log_level="warning") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(6) as several,
    ):
        before = resident_mb(server.process.pid)

        def ask(_: int) -> int:
            return client.post("/v2/models/tiny/infer", content=body, headers=headers).status_code

        assert set(several.map(ask, range(24))) <= {415, 503}
        until(
            lambda: resident_mb(server.process.pid) < before + GROWN_BYTES / MB + 20,
            "memory to be as it was",
        )
