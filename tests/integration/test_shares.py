"""No client keeps the others out: neither by bulk, nor by bodies that trickle or never end."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.integration.asking import JPEG, PHOTO, connect, files, head, problem
from tests.integration.server import DEADLINE_S, Server, running, until
from tests.photo_factory import encode, quarters

SLOW = encode(quarters(1500, 1000), "PNG")  # takes a while to decode

BEGUN = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'


def client_from(server: Server, address: str) -> httpx.Client:
    """Another address is another client."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=server.url, transport=transport, timeout=DEADLINE_S)


def ask_for_one(client: httpx.Client, **headers: str) -> httpx.Response:
    return client.post("/v1/classify", content=PHOTO, headers=JPEG | headers)


@contextmanager
def bulk(server: Server, connections: int) -> Iterator[Counter[int]]:
    """As much as they get in, of one client, until the end."""
    ended = threading.Event()
    codes: Counter[int] = Counter()

    def send() -> None:
        with client_from(server, "127.0.0.2") as client:
            while not ended.is_set():
                codes[client.post("/v1/classify", files=files(*[SLOW] * 16)).status_code] += 1

    with ThreadPoolExecutor(connections) as pool:
        for _ in range(connections):
            pool.submit(send)
        try:
            until(lambda: codes[503], "the queue to be as full as it gets")
            yield codes
        finally:
            ended.set()


@pytest.mark.parametrize("seconds", ["30", "3"])
def test_a_bulk_sender_on_many_connections_keeps_no_single_photo_out(
    models_dir: Path, seconds: str
) -> None:
    """Nor is such a photo refused for a queue that it does not have to wait for."""
    with (
        running(models_dir, max_queue=80, timeout_s=60) as server,
        bulk(server, 8) as codes,
        client_from(server, "127.0.0.3") as client,
    ):
        for _ in range(20):
            found = ask_for_one(client, **{"x-request-timeout": seconds})
            assert found.status_code == 200, found.text
            time.sleep(0.05)
    assert set(codes) == {200, 503}


def test_bodies_that_trickle_hold_only_one_clients_share_and_not_for_long(models_dir: Path) -> None:
    with (
        running(models_dir, body_timeout_s=2) as server,
        client_from(server, "127.0.0.3") as other,
        httpx.Client(base_url=server.url) as client,
        ExitStack() as held,
    ):
        senders = [held.enter_context(connect(client)) for _ in range(3)]
        for sender in senders:
            sender.sendall(head("Content-Length: 64000000") + BEGUN)
        until(lambda: "superbin_queue_bytes 1.92e+08" in other.get("/metrics").text, "them")
        with connect(client) as fourth:
            fourth.sendall(head("Content-Length: 64000000"))
            assert b" 503 " in fourth.recv(4096)
        for _ in range(5):
            assert ask_for_one(other).status_code == 200

        def cut_off() -> bool:
            for sender in senders:
                with suppress(OSError):
                    sender.sendall(b"x" * 200)
            return any(line.get("code") == 408 for line in server.log_lines())

        until(cut_off, "one to be cut off, which by 4096 bytes a second alone it never would be")


def test_forms_of_one_large_photo_are_not_refused_for_being_as_long_as_many_small_ones(
    models_dir: Path,
) -> None:
    with (
        running(models_dir, max_queue=40, timeout_s=60) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
        ExitStack() as held,
    ):
        small = encode(quarters(64, 48), "JPEG")
        for _ in range(5):
            assert client.post("/v1/classify", files=files(small)).status_code == 200
        senders = [held.enter_context(connect(client)) for _ in range(12)]
        body = BEGUN + PHOTO + b"\r\n--x--\r\n"
        for sender in senders:
            sender.sendall(head(f"Content-Length: {len(body)}") + body[:-1])

        def held_places() -> float:
            found = client.get("/metrics").text.split("\nsuperbin_queue_bytes ")[1].split()[0]
            return float(found) / len(body)

        until(lambda: held_places() == len(senders), "all to be let in")
        for sender in senders:
            sender.sendall(body[-1:])
            assert b" 200 " in sender.recv(4096)


def test_bodies_without_a_length_hold_no_more_than_came(models_dir: Path) -> None:
    """As many proxies send them on."""
    with running(models_dir, timeout_s=60) as server, ThreadPoolExecutor(30) as pool:
        begun = threading.Barrier(30)

        def send(number: int) -> int:
            def chunks() -> Iterator[bytes]:
                yield PHOTO[:1000]
                begun.wait(DEADLINE_S)  # all are let in by then
                yield PHOTO[1000:]

            with httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client:
                return client.post("/v1/classify", content=chunks(), headers=JPEG).status_code

        assert Counter(pool.map(send, range(30))) == {200: 30}


def test_a_body_that_outgrows_the_queue_is_refused_on_its_way(models_dir: Path) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"\xff" * 100_000

    settings = {"max_queue_bytes": 2_000_000, "max_request_bytes": 2_000_000}
    limits = settings | {"max_photo_bytes": 5_000_000, "client_share": 0.6}
    with (
        running(models_dir, **limits) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
        connect(client) as connection,
    ):
        connection.sendall(head("Content-Length: 500000") + b"--x\r\n")
        until(lambda: "superbin_queue_bytes 500000.0" in client.get("/metrics").text, "it")
        response = client.post("/v1/classify", content=chunks(), headers=JPEG)
        problem(response, 503, "queue_full")


def test_requests_at_the_same_time_count_on_the_same_tokens(models_dir: Path) -> None:
    """What each is expected to bring is charged when it is let in, not when it is there."""
    settings = {"rate_photos_s": 0.01, "max_photos": 4}
    with running(models_dir, **settings) as server, ThreadPoolExecutor(12) as pool:
        begun = threading.Event()

        def send(number: int) -> int:
            def chunks() -> Iterator[bytes]:
                yield PHOTO[:1000]
                begun.wait(DEADLINE_S)
                yield PHOTO[1000:]

            with httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client:
                return client.post("/v1/classify", content=chunks(), headers=JPEG).status_code

        sent = [pool.submit(send, number) for number in range(12)]

        def refused() -> int:
            return sum(line.get("code") == 429 for line in server.log_lines())

        until(lambda: refused() >= 8, "those in debt to be refused")
        begun.set()
        assert Counter(one.result() for one in sent) == {200: 4, 429: 8}


TOLD = ("content-type", "inference-header-content-length")


def form(photos: int) -> httpx.Request:
    return httpx.Request("POST", "http://x/v1/classify", files=files(*[PHOTO] * photos))


def tensor(photos: int) -> httpx.Request:
    blob = (len(PHOTO).to_bytes(4, "little") + PHOTO) * photos
    told = {"name": "images", "shape": [photos], "datatype": "BYTES"}
    parameters = {"binary_data_size": len(blob)}
    head = json.dumps({"inputs": [told | {"parameters": parameters}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    url = "http://x/v2/models/tiny/infer"
    return httpx.Request("POST", url, headers=headers, content=head + blob)


@pytest.mark.parametrize("made", [form, tensor])
def test_many_photos_of_requests_at_the_same_time_count_on_the_same_tokens(
    models_dir: Path, made: Callable[[int], httpx.Request]
) -> None:
    """Four photos may come at once; how many there are, the headers do not tell."""
    request = made(3)
    request.read()
    with (
        running(models_dir, rate_photos_s=0.001, max_photos=4) as server,
        ThreadPoolExecutor(6) as pool,
    ):
        begun = threading.Event()

        def send(number: int) -> int:
            def chunks() -> Iterator[bytes]:
                yield request.content[:1000]
                begun.wait(DEADLINE_S)
                yield request.content[1000:]

            headers = {name: value for name, value in request.headers.items() if name in TOLD}
            with httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client:
                path = request.url.path
                return client.post(path, content=chunks(), headers=headers).status_code

        sent = [pool.submit(send, number) for number in range(6)]

        def refused() -> int:
            return sum(line.get("code") == 429 for line in server.log_lines())

        until(lambda: refused() == 2, "those in debt to be refused")
        begun.set()
        assert Counter(one.result() for one in sent) == {200: 1, 429: 5}


def test_what_breaks_off_costs_one_photo_however_many_it_announced(models_dir: Path) -> None:
    settings = {"rate_photos_s": 0.001, "max_photos": 8}
    with (
        running(models_dir, **settings) as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        assert client.post("/v1/classify", files=files(PHOTO)).status_code == 200  # 1 of 8
        broken = {"content-type": "multipart/form-data; boundary=x"}
        for _ in range(3):
            response = client.post("/v1/classify", content=b"-" * len(PHOTO) * 6, headers=broken)
            problem(response, 400, "malformed_request")
        assert client.post("/v1/classify", files=files(*[PHOTO] * 4)).status_code == 200
        problem(client.post("/v1/classify", files=files(PHOTO)), 429, "rate_limited")
