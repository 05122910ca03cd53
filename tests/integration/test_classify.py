"""`POST /v1/classify` over a socket: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.server import Server, running, until
from tests.photo_factory import encode, noise, png, quarters

PHOTO = (Path(__file__).parent.parent / "photos" / "glass.jpg").read_bytes()
JPEG = {"content-type": "image/jpeg"}
PHOTO_BYTES, REQUEST_BYTES = 100_000, 300_000


@pytest.fixture(scope="module")
def small(models_dir: Path) -> Iterator[httpx.Client]:
    """Of a server with small limits."""
    settings = {
        "max_photo_bytes": PHOTO_BYTES,
        "max_request_bytes": REQUEST_BYTES,
        "max_photos": 3,
        "max_queue": 3,
        "max_photo_pixels": 250_000,
    }
    with (
        running(models_dir, **settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


def problem(response: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == status
    assert found["reason"] == reason
    assert found["type"].endswith(reason)
    assert found["request_id"] == response.headers["x-request-id"]
    return found


def files(*photos: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{i}.jpg", data)) for i, data in enumerate(photos)]


def test_one_photo_is_answered_with_everything(client: httpx.Client) -> None:
    response = client.post("/v1/classify", files={"file": ("a/glass.jpg", PHOTO)})
    assert response.status_code == 200
    answer = response.json()
    assert answer["model"] == {"name": "tiny", "version": "1"}
    assert answer["request_id"] == response.headers["x-request-id"]
    (result,) = answer["results"]
    assert result["filename"] == "glass.jpg"
    assert result["probabilities"][result["superclass"]] == result["confidence"]
    assert result["confidence"] == max(result["probabilities"].values())
    assert result["decision"] == ("sort" if result["confidence"] >= 0.5 else "manual")
    assert set(result["references"][0]) == {"id", "superclass", "subclass", "source", "weight"}
    shares = [r["weight"] for r in result["references"]] + [result["self_weight"]]
    assert 0 < sum(shares) <= 1 + 1e-5
    timings = response.headers["server-timing"]
    assert [part.split(";")[0] for part in timings.split(", ")] == [
        "read",
        "decode",
        "queue",
        "infer",
    ]


def test_a_raw_body_has_the_same_answer_as_a_form(client: httpx.Client) -> None:
    form = client.post("/v1/classify", files={"file": ("x.jpg", PHOTO)}).json()["results"][0]
    for kind in ("image/jpeg", "IMAGE/JPEG; q=1", "image/png", "image/*"):
        raw = client.post("/v1/classify", content=PHOTO, headers={"content-type": kind})
        assert raw.json()["results"] == [form | {"filename": None}]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"])
def test_every_format_is_accepted(client: httpx.Client, format: str) -> None:
    response = client.post("/v1/classify", files=files(encode(quarters(), format)))
    assert response.status_code == 200


def test_a_clients_request_id_comes_back(client: httpx.Client) -> None:
    response = client.post(
        "/v1/classify", files=files(PHOTO), headers={"x-request-id": "line-4/photo-17"}
    )
    assert response.json()["request_id"] == "line-4/photo-17"
    bad = client.post("/v1/classify", files=files(PHOTO), headers={"x-request-id": "<b>"})
    assert bad.headers["x-request-id"] != "<b>"


def test_among_several_a_bad_photo_gets_its_own_error(client: httpx.Client) -> None:
    response = client.post("/v1/classify", files=files(PHOTO, b"", noise(3), PHOTO[:-4000]))
    assert response.status_code == 200
    good, empty, also_good, broken = response.json()["results"]
    assert "superclass" in good
    assert "superclass" in also_good
    assert (empty["error"]["status"], empty["error"]["reason"]) == (400, "empty")
    assert (broken["error"]["status"], broken["error"]["reason"]) == (422, "broken")
    assert broken["filename"] == "3.jpg"


@pytest.mark.parametrize(
    ("data", "status", "reason", "told"),
    [
        (b"", 400, "empty", "got 0 bytes"),
        (b"%PDF-1.7", 415, "unsupported_format", "JPEG"),
        (PHOTO[:-4000], 422, "broken", "JPEG"),
        (png(50_000, 50_000), 413, "too_large", "40,000,000 pixels"),
    ],
)
def test_where_the_only_photo_is_bad_that_is_the_answer(
    client: httpx.Client, data: bytes, status: int, reason: str, told: str
) -> None:
    form = client.post("/v1/classify", files=files(data))
    assert told in problem(form, status, reason)["detail"]
    raw = client.post("/v1/classify", content=data, headers={"content-type": "image/jpeg"})
    problem(raw, status, reason)


def test_photos_in_the_wrong_place_are_told_the_right_one(client: httpx.Client) -> None:
    wrong_field = client.post("/v1/classify", files={"photo": ("x.jpg", PHOTO)})
    detail = problem(wrong_field, 400, "malformed_request")["detail"]
    assert "in the field 'file'" in detail
    assert "got the field 'photo' (a file)" in detail
    text = client.post("/v1/classify", files={"file": (None, "text")})
    assert "text, without a filename" in problem(text, 400, "malformed_request")["detail"]
    more = client.post("/v1/classify", files=files(PHOTO), data={"model": "other"})
    assert "'model' (text" in problem(more, 400, "malformed_request")["detail"]


@pytest.mark.parametrize("body", [b"", b"--x--\r\n", b"--x\r\n", b"junk"])
def test_forms_without_photos_are_malformed(client: httpx.Client, body: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    response = client.post("/v1/classify", content=body, headers=headers)
    problem(response, 400, "malformed_request")


def test_a_form_without_a_boundary_is_malformed(client: httpx.Client) -> None:
    headers = {"content-type": "multipart/form-data"}
    response = client.post("/v1/classify", content=b"x", headers=headers)
    assert "boundary" in problem(response, 400, "malformed_request")["detail"]


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream", ""])
def test_other_bodies_are_unsupported(client: httpx.Client, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    response = client.post("/v1/classify", content=b'{"url": "x"}', headers=headers)
    detail = problem(response, 415, "unsupported_media_type")["detail"]
    assert "in the field 'file'" in detail
    assert (kind or "no Content-Type") in detail


def test_a_compressed_body_is_unsupported(client: httpx.Client) -> None:
    headers = {"content-type": "image/jpeg", "content-encoding": "gzip"}
    response = client.post("/v1/classify", content=PHOTO, headers=headers)
    assert "gzip" in problem(response, 415, "unsupported_media_type")["detail"]


def test_a_photo_over_the_limit_is_refused_alone(small: httpx.Client) -> None:
    big = b"\xff" * (PHOTO_BYTES + 1)
    told = "expected at most 100,000 bytes a photo, got 100,001"
    alone = small.post("/v1/classify", files=files(big))
    assert problem(alone, 413, "too_large")["detail"] == told
    raw = small.post("/v1/classify", content=big, headers={"content-type": "image/jpeg"})
    assert problem(raw, 413, "too_large")["detail"] == told
    first, second = small.post("/v1/classify", files=files(big, PHOTO)).json()["results"]
    assert first["error"]["detail"] == told
    assert "superclass" in second


def test_more_photos_than_allowed_are_refused(small: httpx.Client) -> None:
    assert small.post("/v1/classify", files=files(*[PHOTO] * 3)).status_code == 200
    response = small.post("/v1/classify", files=files(*[PHOTO] * 4))
    assert "at most 3 photos" in problem(response, 413, "too_many_photos")["detail"]


def test_more_pixels_than_allowed_are_refused(small: httpx.Client) -> None:
    response = small.post("/v1/classify", files=files(png(501, 500)))
    assert "501 x 500 = 250,500" in problem(response, 413, "too_large")["detail"]


def test_a_long_body_is_refused_before_it_is_read(small: httpx.Client) -> None:
    """The answer comes though nothing of the body was ever sent."""
    with _connection(small) as connection:
        connection.sendall(_head(f"Content-Length: {REQUEST_BYTES + 1}"))
        assert "got 300,001" in _refusal(connection)


def test_a_long_body_that_does_not_say_so_is_cut_off(small: httpx.Client) -> None:
    """It is chunked and never ends; the answer comes once the limit is passed."""
    part = b"\0" * 50_000
    chunk = b"%x\r\n%b\r\n" % (len(part), part)
    with _connection(small) as connection:
        connection.sendall(_head("Transfer-Encoding: chunked"))
        opening = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        connection.sendall(b"%x\r\n%b\r\n" % (len(opening), opening))
        for _ in range(REQUEST_BYTES // len(part) + 1):
            connection.sendall(chunk)
        assert "at most 300,000 bytes a request, got more" in _refusal(connection)


def _head(framing: str) -> bytes:
    head = "POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x"
    return f"{head}\r\n{framing}\r\n\r\n".encode()


def _refusal(connection: socket.socket) -> str:
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        assert response.status == 413
        found = json.load(response)
    assert found["reason"] == "request_too_large"
    return str(found["detail"])


def _connection(client: httpx.Client) -> socket.socket:
    url = client.base_url
    return socket.create_connection((url.host, url.port or 80), timeout=20)


def test_clients_that_leave_half_way_harm_nobody(server: Server, client: httpx.Client) -> None:
    def left() -> int:
        return sum(line.get("code") == 499 for line in server.log_lines())

    before = left()
    with _connection(client) as connection:
        connection.sendall(_head("Content-Length: 1000") + b"--x\r\n")
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
        with _connection(client) as connection:
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
        sender.sendall(_head("Content-Length: 1000") + b"--x\r\n")
        until(lambda: "superbin_queue_photos 1.0" in httpx.get(f"{server.url}/metrics").text, "it")
        yield server


def test_a_full_queue_refuses_by_the_headers_alone(busy: Server) -> None:
    """Not a byte of the body is sent, and the answer is there."""
    host, port = busy.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(_head("Content-Length: 20000000"))
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
        with _connection(client) as connection:
            connection.sendall(_head("Content-Length: 1500") + b"--x\r\n")
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
        _connection(client) as connection,
    ):
        head = _head("Content-Length: 1000")
        if kind:
            head = head.replace(b"Content-Type: multipart/form-data; boundary=x", kind.encode())
        connection.sendall(head + b"--x\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 408
        found = json.loads(answer.read())
        assert found["reason"] == "slow_request"
        assert "got 5 bytes in" in found["detail"]
        assert "superbin_queue_photos 0.0" in client.get("/metrics").text


def test_a_photo_that_is_not_answered_in_its_time_gets_a_504(client: httpx.Client) -> None:
    slow = encode(quarters(4000, 3000), "PNG")
    hurry = {"x-request-timeout": "0.001"}
    late = client.post("/v1/classify", files=files(slow), headers=hurry)
    assert "within 0.001 s" in problem(late, 504, "deadline")["detail"]
    several = client.post("/v1/classify", files=files(slow, slow), headers=hurry).json()["results"]
    assert [one["error"]["status"] for one in several] == [504, 504]
    longer = client.post("/v1/classify", files=files(PHOTO), headers={"x-request-timeout": "9.5"})
    assert longer.status_code == 200


@pytest.mark.parametrize("given", ["soon", "-1", "0", "0.0", "1e3", "inf", "nan", "9" * 12, ""])
def test_a_timeout_that_is_none_is_told_what_one_is(client: httpx.Client, given: str) -> None:
    headers = {"x-request-timeout": given}
    response = client.post("/v1/classify", files=files(PHOTO), headers=headers)
    problem(response, 400, "malformed_timeout")


def test_an_embedding_is_of_unit_length_and_the_same_alone_and_together(
    client: httpx.Client,
) -> None:
    others = [noise(seed) for seed in range(3)]
    together = client.post("/v1/embed", files=files(*others, PHOTO)).json()
    alone = client.post("/v1/embed", content=PHOTO, headers=JPEG).json()
    assert together["model"] == {"name": "tiny", "version": "1"}
    embedding = together["results"][3]["embedding"]
    assert sum(value**2 for value in embedding) == pytest.approx(1.0, abs=1e-5)
    assert alone["results"][0]["embedding"] == embedding
    problem(client.post("/v1/embed", files=files(b"")), 400, "empty")


@pytest.mark.parametrize("route", ["/v1/classify", "/v1/embed"])
def test_lines_are_the_same_answers_one_by_one(client: httpx.Client, route: str) -> None:
    photos = files(PHOTO, b"no photo", encode(quarters()), PHOTO)
    whole = client.post(route, files=photos).json()
    with client.stream(
        "POST", route, files=photos, headers={"accept": "application/x-ndjson"}
    ) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.iter_lines()]
        request_id = answer.headers["x-request-id"]
    lines.sort(key=lambda line: line["index"])
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    assert all(line["model"] == whole["model"] for line in lines)
    whole["results"][1]["error"]["request_id"] = request_id
    assert [line["result"] for line in lines] == whole["results"]
    assert "superbin_queue_photos 0.0" in client.get("/metrics").text


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


def test_lines_of_a_request_without_photos_are_a_problem_as_ever(client: httpx.Client) -> None:
    headers = {"accept": "application/x-ndjson", "content-type": "text/plain"}
    problem(
        client.post("/v1/classify", content=b"x", headers=headers), 415, "unsupported_media_type"
    )
