"""Too much, too slow, too late, gone: what a request may cost the service, and nobody else."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.integration.asking import JPEG, PHOTO, connect, files, head, problem
from tests.integration.server import DEADLINE_S, Server, running, until
from tests.photo_factory import encode, quarters


def test_clients_that_leave_half_way_harm_nobody(server: Server, client: httpx.Client) -> None:
    def left() -> int:
        return sum(line.get("code") == 499 for line in server.log_lines())

    before = left()
    with connect(client) as connection:
        connection.sendall(head("Content-Length: 1000") + b"--x\r\n")
    until(lambda: left() == before + 1, "the departure to be logged")
    assert client.post("/v1/classify", files=files(PHOTO)).status_code == 200
    assert "superbin_queue_photos 0.0" in client.get("/metrics").text


def test_the_photos_of_a_client_that_left_are_not_decoded(models_dir: Path) -> None:
    slow = encode(quarters(3000, 2000), "PNG")
    with (
        running(models_dir, decode_workers=1) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        request = client.build_request("POST", "/v1/classify", files=files(*[slow] * 32))
        request.read()
        with connect(client) as connection:
            head = [f"{name}: {value}" for name, value in request.headers.items()]
            lines = ["POST /v1/classify HTTP/1.1", *head, "", ""]
            connection.sendall("\r\n".join(lines).encode() + request.content)
            until(lambda: "superbin_queue_photos 32.0" in client.get("/metrics").text, "admission")
        until(lambda: "superbin_queue_photos 0.0" in client.get("/metrics").text, "the end")
        assert client.post("/v1/classify", files=files(PHOTO)).status_code == 200
        decoded = client.get("/metrics").text.split('duration_seconds_count{stage="decode"} ')[1]
        assert float(decoded.split()[0]) < 16


def test_a_full_queue_refuses_whole_requests_and_says_when_to_come_back(models_dir: Path) -> None:
    """One place, and many who want it at the same time: each gets an answer or a 503."""
    photo = encode(quarters(3000, 2000), "PNG")  # takes a while to decode
    with (
        running(models_dir, max_queue=1, max_photos=1, decode_workers=1) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(
            pool.map(lambda _: client.post("/v1/classify", files=files(photo)), range(16))
        )
        codes = {answer.status_code for answer in answers}
        assert codes == {200, 503}
        full = next(answer for answer in answers if answer.status_code == 503)
        problem(full, 503, "queue_full")
        assert 1 <= int(full.headers["retry-after"]) <= 60
        assert client.post("/v1/classify", files=files(PHOTO)).status_code == 200


@pytest.fixture(scope="module")
def busy(models_dir: Path) -> Iterator[Server]:
    """A server with one place in its queue, which a body on its way holds."""
    settings = {"max_queue": 1, "max_photos": 1, "body_timeout_s": 60}
    with running(models_dir, **settings) as server, socket.socket() as sender:
        host, port = server.url.removeprefix("http://").split(":")
        sender.connect((host, int(port)))
        sender.sendall(head("Content-Length: 1000") + b"--x\r\n")
        until(lambda: "superbin_queue_photos 1.0" in httpx.get(f"{server.url}/metrics").text, "it")
        yield server


def test_a_full_queue_refuses_by_the_headers_alone(busy: Server) -> None:
    """Not a byte of the body is sent, and the answer is there."""
    host, port = busy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head("Content-Length: 20000000"))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert json.loads(answer.read())["reason"] == "queue_full"


def test_places_are_counted_in_bytes_too(models_dir: Path) -> None:
    with (
        running(models_dir, max_queue_bytes=2000, max_request_bytes=2000) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        with connect(client) as connection:
            connection.sendall(head("Content-Length: 1500") + b"--x\r\n")
            until(lambda: "superbin_queue_bytes 1500.0" in client.get("/metrics").text, "it")
            refused = client.post("/v1/classify", content=b"x" * 501, headers=JPEG)
            found = problem(refused, 503, "queue_full")
            assert "at most 2,000 bytes in the queue, which holds 1,500" in found["detail"]
        until(lambda: "superbin_queue_bytes 0.0" in client.get("/metrics").text, "the end")


@pytest.mark.parametrize("body", ["a form", "a photo"])
def test_a_body_that_trickles_is_cut_off(models_dir: Path, body: str) -> None:
    kind = "Content-Type: image/jpeg" if body == "a photo" else None
    with (
        running(models_dir, body_timeout_s=0.3, body_min_rate=1_000_000) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        connect(client) as connection,
    ):
        opening = head("Content-Length: 1000")
        if kind:
            form = b"Content-Type: multipart/form-data; boundary=x"
            opening = opening.replace(form, kind.encode())
        connection.sendall(opening + b"--x\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 408
        found = json.loads(answer.read())
        assert found["reason"] == "slow_request"
        assert "got 5 bytes in" in found["detail"]
        assert "superbin_queue_photos 0.0" in client.get("/metrics").text


def test_lines_that_nobody_reads_hold_no_places_for_ever(models_dir: Path) -> None:
    """One client asks again and again, and never reads."""
    photos = files(*[encode(quarters(8, 8), "JPEG")] * 128)
    with (
        running(models_dir, max_queue=128, max_photos=128, write_timeout_s=0.5) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
        connect(client) as connection,
    ):
        lines = {"accept": "application/x-ndjson"}
        request = client.build_request("POST", "/v1/classify", files=photos, headers=lines)
        asked = [f"{name}: {value}" for name, value in request.headers.items()]
        again = "\r\n".join(["POST /v1/classify HTTP/1.1", *asked, "", ""]).encode()
        again += request.read()
        connection.settimeout(DEADLINE_S)
        with pytest.raises(ConnectionError):  # and no timeout
            connection.sendall(again * 1000)
        found = client.get("/metrics").text
        assert 'superbin_rejections_total{reason="slow_reader"} 1.0' in found
        until(lambda: "superbin_queue_photos 0.0" in client.get("/metrics").text, "the places")
        assert client.post("/v1/classify", files=photos).status_code == 200


def test_a_photo_that_is_not_answered_in_its_time_gets_a_504(client: httpx.Client) -> None:
    slow = encode(quarters(4000, 3000), "PNG")
    hurry = {"x-request-timeout": "0.02"}
    late = client.post("/v1/classify", files=files(slow), headers=hurry)
    assert "within 0.02 s" in problem(late, 504, "deadline")["detail"]
    for route in ("/v1/classify", "/v1/embed"):
        several = client.post(route, files=files(slow, slow), headers=hurry)
        assert "within 0.02 s" in problem(several, 504, "deadline")["detail"]
    lines = client.post(
        "/v1/classify", files=files(slow, slow), headers=hurry | {"accept": "application/x-ndjson"}
    )
    assert lines.status_code == 200
    told = [json.loads(line)["result"]["error"]["status"] for line in lines.text.splitlines()]
    assert told == [504, 504]
    longer = client.post("/v1/classify", files=files(PHOTO), headers={"x-request-timeout": "9.5"})
    assert longer.status_code == 200


def test_photos_that_were_in_time_are_answered_though_others_were_not(models_dir: Path) -> None:
    slow = encode(quarters(4000, 3000), "PNG")
    with running(models_dir, threads=1, decode_workers=1) as server:
        answer = httpx.post(
            f"{server.url}/v1/classify",
            files=files(PHOTO, *[slow] * 31),
            headers={"x-request-timeout": "1"},
            timeout=30,
        )
    assert answer.status_code == 200
    first, *_, last = answer.json()["results"]
    assert first["superclass"]
    assert last["error"]["reason"] == "deadline"


@pytest.mark.parametrize("given", ["soon", "-1", "0", "0.0", "0.0009", "inf", "nan", ""])
def test_a_timeout_that_is_none_is_told_what_one_is(client: httpx.Client, given: str) -> None:
    headers = {"x-request-timeout": given}
    response = client.post("/v1/classify", files=files(PHOTO), headers=headers)
    problem(response, 400, "malformed_timeout")


def test_a_client_that_leaves_a_stream_gives_its_places_back(server: Server) -> None:
    slow = encode(quarters(3000, 2000), "PNG")
    with (
        httpx.Client(base_url=server.url, timeout=30) as client,
        client.stream(
            "POST",
            "/v1/classify",
            files=files(PHOTO, *[slow] * 20),
            headers={"accept": "application/x-ndjson"},
        ) as answer,
    ):
        assert json.loads(next(answer.iter_lines()))["index"] < 21

    def given_back() -> bool:
        return "superbin_queue_photos 0.0" in httpx.get(f"{server.url}/metrics").text

    until(given_back, "the places to be given back")


def test_what_waits_runs_in_batches_of_the_size_that_was_warmed_up(client: httpx.Client) -> None:
    assert client.post("/v1/classify", files=files(*[PHOTO] * 32)).status_code == 200
    lines = client.get("/metrics").text.splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if line.startswith("superbin_batch_photos"))
    batches = float(told["superbin_batch_photos_count"])
    assert float(told['superbin_batch_photos_bucket{le="2.0"}']) == batches > 0
