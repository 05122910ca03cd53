"""Bodies of `POST /v1/classify` over a socket: which are read, and how the others are refused."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.asking import PHOTO, connect, files, head, problem
from tests.integration.server import running
from tests.photo_factory import png

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


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("filename*=UTF-8''Flasche%20gr%C3%BCn.jpg", "Flasche grün.jpg"),
        ("FileName*=iso-8859-1'de'gr%FCn.jpg", "grün.jpg"),
        ("filename*=UTF-8''..%2Fetc%2Fpasswd", "passwd"),
        ("filename=\"plain.jpg\"; filename*=UTF-8''other.jpg", "plain.jpg"),
    ],
)
def test_an_extended_filename_makes_a_part_a_photo(
    client: httpx.Client, told: str, name: str
) -> None:
    head = f'--x\r\nContent-Disposition: form-data; name="file"; {told}\r\n\r\n'
    form = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post(
        "/v1/classify", content=head.encode() + PHOTO + b"\r\n--x--\r\n", headers=form
    )
    assert answer.json()["results"][0]["filename"] == name


@pytest.mark.parametrize("told", ["x=\"; filename*=UTF-8''a.jpg\"", "filename*=ascii", "a*=b"])
def test_what_is_no_extended_filename_makes_no_photo(client: httpx.Client, told: str) -> None:
    body = f'--x\r\nContent-Disposition: form-data; name="file"; {told}\r\n\r\ntext\r\n--x--\r\n'
    form = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/classify", content=body, headers=form)
    assert "without a filename" in problem(answer, 400, "malformed_request")["detail"]


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


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["identity"], 200),
        (["Identity"], 200),
        ([""], 200),
        (["identity, identity"], 200),
        (["identity", "identity"], 200),
        (["identity", "gzip"], 415),
        (["", "gzip"], 415),
        (["identity, gzip"], 415),
    ],
)
def test_a_body_is_read_where_every_coding_that_is_named_leaves_it_as_it_is(
    client: httpx.Client, lines: list[str], status: int
) -> None:
    headers = [("content-type", "image/jpeg"), *(("content-encoding", one) for one in lines)]
    response = client.post("/v1/classify", content=PHOTO, headers=headers)
    assert response.status_code == status
    assert status == 200 or repr(", ".join(lines).strip()) in response.json()["detail"]


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
    with connect(small) as connection:
        connection.sendall(head(f"Content-Length: {REQUEST_BYTES + 1}"))
        assert "got 300,001" in _refusal(connection)


def test_a_long_body_that_does_not_say_so_is_cut_off(small: httpx.Client) -> None:
    """It is chunked and never ends; the answer comes once the limit is passed."""
    part = b"\0" * 50_000
    chunk = b"%x\r\n%b\r\n" % (len(part), part)
    with connect(small) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        opening = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        connection.sendall(b"%x\r\n%b\r\n" % (len(opening), opening))
        for _ in range(REQUEST_BYTES // len(part) + 1):
            connection.sendall(chunk)
        assert "at most 300,000 bytes a request, got more" in _refusal(connection)


def _refusal(connection: socket.socket) -> str:
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        assert response.status == 413
        found = json.load(response)
    assert found["reason"] == "request_too_large"
    return str(found["detail"])
