"""`POST /v1/classify` over a socket: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.asking import JPEG, PHOTO, connect, files, head, problem
from tests.integration.server import running
from tests.photo_factory import encode, noise, png, quarters

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


def test_lines_of_a_request_without_photos_are_a_problem_as_ever(client: httpx.Client) -> None:
    headers = {"accept": "application/x-ndjson", "content-type": "text/plain"}
    problem(
        client.post("/v1/classify", content=b"x", headers=headers), 415, "unsupported_media_type"
    )


@pytest.mark.parametrize("route", ["/v1/classify", "/v1/embed"])
def test_a_misspelt_query_parameter_is_refused_and_the_right_ones_told(
    client: httpx.Client, route: str
) -> None:
    told = client.post(f"{route}?modle=tiny&camera=c1", content=PHOTO, headers=JPEG)
    detail = problem(told, 422, "unknown_parameter")["detail"]
    assert detail == "expected no query parameters but model, site, line, camera, got 'modle'"
    assert client.post(f"{route}?model=tiny&line=a", content=PHOTO, headers=JPEG).is_success


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ("/v1/classify?site=a&line=1&site=b", "site 2 times"),
        (
            "/v1/embed?model=tiny&model=tiny&camera=1&camera=1&camera=2",
            "model 2 times, camera 3 times",
        ),
    ],
)
def test_a_query_parameter_that_is_there_twice_is_refused(
    client: httpx.Client, route: str, told: str
) -> None:
    refused = problem(client.post(route, content=PHOTO, headers=JPEG), 422, "unknown_parameter")
    assert refused["detail"] == f"expected each query parameter once, got {told}"
    report = client.get("/v1/composition?site=a&site=b&by=day&by=bin")
    detail = problem(report, 422, "unknown_parameter")["detail"]
    assert detail == "expected each query parameter once, got site 2 times"  # `by` may be


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("/v1/models?name=x", "no query parameters"),
        (
            "/v1/composition?form=x&site=a",
            "no query parameters but site, line, from, to, by, format",
        ),
    ],
)
def test_other_routes_refuse_unknown_query_parameters_too(
    client: httpx.Client, route: str, expected: str
) -> None:
    detail = problem(client.get(route), 422, "unknown_parameter")["detail"]
    assert detail.startswith(f"expected {expected}, got ")


def test_pages_and_probes_let_anything_be_in_the_query(client: httpx.Client) -> None:
    assert client.get("/?from=a-link").is_success
    assert client.get("/livez?verbose").is_success
