"""The Open Inference Protocol v2, spoken by Triton's own client, unchanged."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from service.bundle import OUTPUTS
from tests.integration.inference import PHOTOS, answers_of_v1, check, encoded, pixels
from tests.integration.server import Server
from tests.photo_factory import encode, quarters
from tests.tiny_bundle import SUPERCLASSES
from tests.tiny_graph import SIZE

INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def speaker(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="module")
def expected(server: Server) -> list[dict[str, Any]]:
    return answers_of_v1(server)


def as_input(array: npt.NDArray[Any], *, binary: bool) -> triton.InferInput:
    kind = "BYTES" if array.dtype == object else "UINT8"
    tensor = triton.InferInput("images", list(array.shape), kind)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def test_health_and_metadata(speaker: triton.InferenceServerClient) -> None:
    assert speaker.is_server_live()
    assert speaker.is_server_ready()
    assert speaker.is_model_ready("tiny")
    assert speaker.is_model_ready("tiny", "1")
    assert "binary_tensor_data" in speaker.get_server_metadata()["extensions"]
    metadata = speaker.get_model_metadata("tiny")
    assert metadata == speaker.get_model_metadata("tiny", "1")
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [
        {"name": "images", "datatype": "UINT8", "shape": [-1, SIZE, SIZE, 3]}
    ]
    assert [output["name"] for output in metadata["outputs"]] == [*OUTPUTS, "doubts"]


@pytest.mark.parametrize("answer", [True, False], ids=["binary answer", "JSON answer"])
@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize(
    ("kind", "binary"), [("pixels", True), ("pixels", False), ("photos", True), ("column", True)]
)
def test_pixels_and_encoded_photos_have_the_answers_of_v1(
    speaker: triton.InferenceServerClient,
    expected: list[dict[str, Any]],
    kind: str,
    binary: bool,
    version: str,
    answer: bool,
) -> None:
    arrays = {"pixels": pixels(), "photos": encoded((-1,)), "column": encoded((-1, 1))}
    outputs = [triton.InferRequestedOutput(name, binary_data=answer) for name in OUTPUTS]
    result = speaker.infer(
        "tiny",
        [as_input(arrays[kind], binary=binary)],
        model_version=version,
        outputs=outputs,
        request_id="seven",
    )
    check(result.as_numpy("probabilities"), expected)
    assert result.get_response()["id"] == "seven"
    assert result.as_numpy("references").dtype == np.int64
    assert result.as_numpy("embedding").dtype == np.float32
    weights = [[one["weight"] for one in row["references"]] for row in expected]
    np.testing.assert_allclose(result.as_numpy("reference_weights"), weights, atol=1e-6)
    own = [row["self_weight"] for row in expected]
    np.testing.assert_allclose(result.as_numpy("self_weight"), own, atol=1e-6)


def test_without_outputs_all_come(speaker: triton.InferenceServerClient) -> None:
    result = speaker.infer("tiny", [as_input(pixels(), binary=True)])
    assert [one["name"] for one in result.get_response()["outputs"]] == [*OUTPUTS, "doubts"]


@pytest.mark.parametrize("binary", [True, False])
def test_classes_can_be_asked_for_by_name(
    speaker: triton.InferenceServerClient, expected: list[dict[str, Any]], binary: bool
) -> None:
    output = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    result = speaker.infer("tiny", [as_input(pixels(), binary=True)], outputs=[output])
    named = result.as_numpy("probabilities")
    assert named.shape == (3, 2)
    for row, answer in zip(named, expected, strict=True):
        value, index, name = (row[0] if isinstance(row[0], str) else row[0].decode()).split(":")
        assert name == answer["superclass"] == SUPERCLASSES[int(index)]
        assert float(value) == pytest.approx(answer["confidence"], abs=1e-6)


def test_photos_in_json_are_base64(client: httpx.Client, expected: list[dict[str, Any]]) -> None:
    data = [base64.b64encode(photo).decode() for photo in PHOTOS]
    tensor = {"name": "images", "datatype": "BYTES", "shape": [3], "data": data}
    answer = client.post(INFER, json={"inputs": [tensor]}).json()
    outputs = {one["name"]: one for one in answer["outputs"]}
    check(np.reshape(outputs["probabilities"]["data"], (3, -1)), expected)
    assert "id" not in answer


def test_what_triton_does_not_know_is_an_error_it_understands(
    speaker: triton.InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException, match="expected a model of tiny/1, got 'other'"):
        speaker.infer("other", [as_input(pixels(), binary=True)])
    with pytest.raises(InferenceServerException, match="got 'tiny/2'"):
        speaker.get_model_metadata("tiny", "2")
    assert not speaker.is_model_ready("other")
    broken = np.empty(2, dtype=object)
    broken[:] = [PHOTOS[0], PHOTOS[1][:-900]]
    with pytest.raises(InferenceServerException, match="do not decode"):
        speaker.infer("tiny", [as_input(broken, binary=True)])
    with pytest.raises(InferenceServerException, match="at most 32 photos a request, got 33"):
        speaker.infer("tiny", [as_input(np.repeat(pixels()[:1], 33, axis=0), binary=True)])


def tensor(**others: Any) -> dict[str, Any]:
    good = {"name": "images", "datatype": "UINT8", "shape": [1, SIZE, SIZE, 3]}
    return {key: value for key, value in (good | others).items() if value is not None}


def request(*tensors: dict[str, Any], **others: Any) -> bytes:
    return json.dumps({"inputs": list(tensors), **others}).encode()


FLAT = [0] * (SIZE * SIZE * 3)
GOOD = tensor(data=FLAT)
BINARY = tensor(parameters={"binary_data_size": len(FLAT)})
BYTES = tensor(datatype="BYTES", shape=[1])


@pytest.mark.parametrize(
    ("body", "length", "detail"),
    [
        (b"", None, "expected an inference request as JSON"),
        (b"[]", None, "expected an inference request as JSON"),
        (b"[" * 100_000, None, "expected an inference request as JSON"),
        (b"\xff{}", None, "expected an inference request as JSON"),
        (request(), None, "expected the one input 'images', got []"),
        (request(GOOD, GOOD), None, "got ['images', 'images']"),
        (request(tensor(name="bank_keys", data=FLAT)), None, "got ['bank_keys']"),
        (request(tensor(datatype="FP32", data=FLAT)), None, "got 'FP32'"),
        (request(tensor()), None, "in `data`, or behind the JSON"),
        (request(tensor(data=FLAT[:-1])), None, "numbers from 0 to 255"),
        (request(tensor(data=[*FLAT[:-1], 256])), None, "no integers from 0 to 255"),
        (request(tensor(data=[*FLAT[:-1], -1])), None, "no integers from 0 to 255"),
        (request(tensor(data=[*FLAT[:-1], 0.5])), None, "no integers from 0 to 255"),
        (request(tensor(data=[*FLAT[:-1], "0"])), None, "no integers from 0 to 255"),
        (request(tensor(data=[*FLAT[:-1], [1]])), None, "numbers from 0 to 255"),
        (request(tensor(data=[10**30])), None, "no integers from 0 to 255"),
        (request(tensor(data=[], shape=[0, SIZE, SIZE, 3])), None, "expected the shape [N, "),
        (request(tensor(data=FLAT, shape=[1, SIZE, SIZE])), None, "expected the shape [N, "),
        (request(tensor(data=FLAT, shape=[-1, SIZE, SIZE, 3])), None, "expected the shape [N, "),
        (request(BINARY), "9" * 30, "Inference-Header-Content-Length"),
        (request(BINARY), "9" * 5000, "Inference-Header-Content-Length"),
        (request(BINARY), "-1", "Inference-Header-Content-Length"),
        (request(BINARY), None, "bytes behind the JSON and no `data`, got 0 bytes"),
        (request(BYTES | {"data": ["?"]}), None, "expected photos in base64"),
        (request(BYTES | {"data": [7]}), None, "expected photos in base64"),
        (request(BYTES | {"data": []}), None, "expected the shape [N], got [1] and 0 photos"),
        (request(BYTES | {"data": ["", ""]}), None, "got [1] and 2 photos"),
        (request(GOOD, outputs=[{"name": "logits"}]), None, "expected outputs of probabilities"),
        (request(GOOD, outputs=[{"name": "doubts"}] * 2), None, "once, got doubts twice"),
        (
            request(GOOD, outputs=[{"name": "embedding", "parameters": {"classification": 1}}]),
            None,
            "expected classification of probabilities, got embedding",
        ),
        (
            request(
                GOOD, outputs=[{"name": "probabilities", "parameters": {"classification": "x"}}]
            ),
            None,
            "expected a number of classes, got 'x'",
        ),
    ],
)
def test_what_is_none_of_the_protocol_is_told_what_is(
    client: httpx.Client, body: bytes, length: str | None, detail: str
) -> None:
    headers = {} if length is None else {"inference-header-content-length": length}
    response = client.post(INFER, content=body, headers=headers)
    assert response.status_code == 400, response.text
    assert detail in response.json()["error"]
    assert response.json()["reason"] == "malformed_tensor"


@pytest.mark.parametrize(
    "blob", [b"\x01", struct.pack("<I", 5) + b"1234", struct.pack("<I", 2**32 - 1)]
)
def test_a_binary_tensor_that_ends_early_is_told_so(client: httpx.Client, blob: bytes) -> None:
    head = request(BYTES | {"parameters": {"binary_data_size": len(blob)}})
    headers = {"inference-header-content-length": str(len(head))}
    response = client.post(INFER, content=head + blob, headers=headers)
    assert response.status_code == 400
    assert "behind its length (4 bytes), got less" in response.json()["error"]


def test_of_several_photos_the_one_that_is_bad_is_named(
    speaker: triton.InferenceServerClient,
) -> None:
    photos = encoded((len(PHOTOS),))
    photos[1] = b"junk"
    with pytest.raises(InferenceServerException, match=r"images\[1\]: expected one of JPEG"):
        speaker.infer("tiny", [as_input(photos, binary=True)])


def test_the_limits_hold_here_too(client: httpx.Client) -> None:
    long = client.post(INFER, content=b" " * 64_000_001)
    assert long.status_code == 413
    zipped = client.post(INFER, content=b"x", headers={"content-encoding": "gzip"})
    assert zipped.status_code == 415
    large = base64.b64encode(encode(quarters(8000, 7000))).decode()
    huge = client.post(INFER, content=request(BYTES | {"data": [large]}))
    assert huge.status_code == 413
    assert "at most 50,000,000 pixels" in huge.json()["error"]
    late = client.post(INFER, content=request(GOOD), headers={"x-request-timeout": "0"})
    assert late.status_code == 400
    assert "superbin_queue_photos 0.0" in client.get("/metrics").text
