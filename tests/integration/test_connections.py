"""Connections that send too little, too slowly, or what nobody will read."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.asking import JPEG, PHOTO, connect
from tests.integration.server import DEADLINE_S, Server, running, until

HEADER_TIMEOUT_S = 0.4
MAX_CONNECTIONS = 8
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture(scope="module")
def server(models_dir: Path) -> Iterator[Server]:
    with running(
        models_dir,
        header_timeout_s=HEADER_TIMEOUT_S,
        max_connections=MAX_CONNECTIONS,
        keep_alive_s=1,
        max_photo_bytes=200_000,
    ) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def everything(connection: socket.socket) -> bytes:
    """All that comes until the server closes; it is a failure if it never does."""
    connection.settimeout(DEADLINE_S)
    found = b""
    try:
        while more := connection.recv(65_536):
            found += more
    except ConnectionResetError:
        pass
    return found


def flood(connection: socket.socket, piece: bytes, most: int) -> int:
    """Send until the server closes, and say how many bytes that took; at most about `most`."""
    connection.settimeout(DEADLINE_S)
    sent = 0
    try:
        while sent < most:
            sent += connection.send(piece)
    except OSError:
        pass
    return sent


def rejections(client: httpx.Client, reason: str) -> float:
    start = f'superbin_rejections_total{{reason="{reason}"}} '
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


@pytest.mark.parametrize("opening", [b"", b"\r\n"])
def test_a_connection_without_a_request_is_closed(client: httpx.Client, opening: bytes) -> None:
    with connect(client) as connection:
        started = time.monotonic()
        connection.sendall(opening)
        everything(connection)
        assert time.monotonic() - started >= HEADER_TIMEOUT_S / 2


@pytest.mark.parametrize("piece", [b"X-Drip: 1\r\n", b"X"])
def test_headers_that_trickle_are_cut_off(client: httpx.Client, piece: bytes) -> None:
    before = rejections(client, "slow_headers")
    with connect(client) as connection:
        connection.sendall(GET)
        connection.settimeout(0.05)
        answer = b""
        end = time.monotonic() + DEADLINE_S
        while not answer and time.monotonic() < end:
            connection.sendall(piece)
            try:
                answer = connection.recv(65_536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert rejections(client, "slow_headers") == before + 1


def test_headers_in_pieces_are_as_good(client: httpx.Client) -> None:
    with connect(client) as connection:
        for piece in (GET[:7], GET[7:20], GET[20:], b"\r", b"\n"):
            connection.sendall(piece)
            time.sleep(HEADER_TIMEOUT_S / 20)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            assert json.load(response) == {"status": "alive"}


@pytest.mark.parametrize(
    ("opening", "piece"),
    [
        (GET + b"X-Long: ", b"x" * 1_000_000),
        (GET, b"X-Many: 1\r\n" * 100_000),
        (b"GET /", b"x" * 1_000_000),
        (b"", b"\r\n" * 100_000),
        (GET + b"X-At-Once: " + b"x" * 100_000 + b"\r\n\r\n", b"x"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Trailer: ", b"x" * 1_000_000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;extension=", b"x" * 1_000_000),
    ],
    ids=["one long", "many", "address", "empty lines", "at once", "trailers", "extension"],
)
def test_headers_without_an_end_are_cut_off(
    client: httpx.Client, opening: bytes, piece: bytes
) -> None:
    with connect(client) as connection:
        connection.sendall(opening)
        assert flood(connection, piece, 200_000_000) < 20_000_000
    until(lambda: client.get("/livez").status_code == 200, "the server to serve on")


def test_headers_that_are_too_large_are_told_so(client: httpx.Client) -> None:
    before = rejections(client, "headers_too_large")
    with connect(client) as connection:
        connection.sendall(GET + b"X-Long: " + b"x" * 66_000)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 431 "), answer
    assert answer.endswith(b"expected at most 65,536 bytes of headers\n")
    assert b"retry-after" not in answer  # they will not fit later either
    assert rejections(client, "headers_too_large") == before + 1
    assert client.get("/livez", headers={"x-long": "x" * 60_000}).status_code == 200


@pytest.mark.parametrize("length", [b"Content-Length: 100000000000", b"Transfer-Encoding: chunked"])
def test_a_body_that_was_refused_is_not_read_to_its_end(
    client: httpx.Client, length: bytes
) -> None:
    piece = b"x" * 1_000_000
    if b"chunked" in length:
        piece = b"f4240\r\n" + piece + b"\r\n"
    with connect(client) as connection:
        connection.sendall(POST + length + b"\r\n\r\n")
        assert flood(connection, piece, 1_000_000_000) < 100_000_000


def test_a_refused_body_that_stalls_is_cut_off_and_the_reason_was_told(
    client: httpx.Client,
) -> None:
    with connect(client) as connection:
        connection.sendall(POST + b"Content-Length: 300000\r\n\r\nx")
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"reason":"too_large"' in answer


def test_a_length_of_many_zeros_is_that_of_the_body(client: httpx.Client) -> None:
    """Python refuses to read as many digits."""
    with connect(client) as connection:
        length = b"Connection: close\r\nContent-Length: " + b"0" * 5000 + b"1\r\n\r\n"
        connection.sendall(POST + length + b"x")
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 415 "), answer
    assert b'"reason":"unsupported_format"' in answer


def test_after_a_refused_body_that_ends_the_connection_goes_on(client: httpx.Client) -> None:
    with connect(client) as connection:
        connection.sendall(POST + b"Content-Length: 300000\r\n\r\n" + b"x" * 300_000)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            assert response.status == 413
            response.read()
        connection.sendall(GET + b"\r\n")
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            assert json.load(response) == {"status": "alive"}
        everything(connection)  # and it is closed as any other that idles


def test_one_connection_too_many_takes_the_place_of_the_one_that_idled_longest(
    client: httpx.Client, server: Server
) -> None:
    before = rejections(client, "too_many_connections")
    held = [connect(client) for _ in range(MAX_CONNECTIONS)]
    busy = held[-1]
    busy.sendall(POST + f"Content-Length: {len(PHOTO)}\r\n\r\n".encode() + PHOTO[:1])
    for _ in range(3 * MAX_CONNECTIONS):
        assert httpx.get(f"{server.url}/livez").status_code == 200
    assert rejections(client, "too_many_connections") > before
    assert everything(held[0]) == b""
    busy.sendall(PHOTO[1:])
    with http.client.HTTPResponse(busy) as response:
        response.begin()
        assert response.status == 200
    for connection in held:
        connection.close()


def test_where_all_are_busy_one_more_is_told_so(client: httpx.Client, server: Server) -> None:
    client.close()
    url = httpx.URL(server.url)

    def open_one() -> socket.socket:
        return socket.create_connection((url.host, url.port or 0), timeout=DEADLINE_S)

    held = [open_one() for _ in range(MAX_CONNECTIONS)]
    for connection in held:
        connection.sendall(POST + f"Content-Length: {len(PHOTO)}\r\n\r\n".encode() + PHOTO[:1])
    time.sleep(HEADER_TIMEOUT_S / 2)
    with open_one() as more:
        answer = everything(more)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer
    for connection in held:
        connection.sendall(PHOTO[1:])
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            assert response.status == 200
        connection.close()
    until(
        lambda: (
            httpx.post(f"{server.url}/v1/classify", content=PHOTO, headers=JPEG).status_code == 200
        ),
        "the places to be free again",
    )


def test_a_client_that_closes_its_half_at_once_gets_its_answer(client: httpx.Client) -> None:
    for _ in range(20):
        with connect(client) as connection:
            connection.sendall(GET + b"\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert everything(connection).startswith(b"HTTP/1.1 200 ")


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("asked", [UPGRADE, b"Upgrade: websocket\r\nConnection: x,upgrade\r\n"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_request_for_an_upgrade_is_answered_without_one(
    client: httpx.Client, asked: bytes, apart: bool
) -> None:
    """Its body is its own, and never the next request."""
    length = b"Content-Length: %d\r\n\r\n"
    hidden = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    last = GET + asked.replace(b"Connection: ", b"Connection: close, ") + b"\r\n"
    pieces = [
        POST + asked + length % len(PHOTO),
        PHOTO,
        POST + asked + length % len(hidden),
        hidden,
    ]
    with connect(client) as connection:
        for piece in [*pieces, last] if apart else [b"".join([*pieces, last])]:
            connection.sendall(piece)
            time.sleep(0.05)
        answers = everything(connection)
    assert re.findall(rb"HTTP/1\.1 (\d+) ", answers) == [b"200", b"415", b"200"]


@pytest.mark.parametrize(
    "request_head",
    [
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    ],
)
def test_what_is_not_done_is_refused(client: httpx.Client, request_head: bytes) -> None:
    with connect(client) as connection:
        connection.sendall(request_head)
        answer = everything(connection)
    assert answer.startswith(b"HTTP/1.1 501 Not Implemented")
    assert b"retry-after" not in answer
