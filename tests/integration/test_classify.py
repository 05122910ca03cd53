"""`POST /v1/classify` and `/v1/embed` over a socket: answers, and what may be asked with."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.integration.asking import JPEG, PHOTO, files, problem
from tests.photo_factory import encode, noise, png, quarters


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
        (png(50_000, 50_000), 413, "too_large", "50,000,000 pixels"),
    ],
)
def test_where_the_only_photo_is_bad_that_is_the_answer(
    client: httpx.Client, data: bytes, status: int, reason: str, told: str
) -> None:
    form = client.post("/v1/classify", files=files(data))
    assert told in problem(form, status, reason)["detail"]
    raw = client.post("/v1/classify", content=data, headers={"content-type": "image/jpeg"})
    problem(raw, status, reason)


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
