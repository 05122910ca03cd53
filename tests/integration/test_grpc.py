"""The Open Inference Protocol v2 over gRPC, spoken by Triton's own client, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc.service_pb2 import ModelInferRequest, ModelInferResponse
from tritonclient.utils import InferenceServerException

from service.bundle import OUTPUTS
from tests.integration.grpc_asking import INFER, SERVICE, typed
from tests.integration.inference import PHOTOS, answers_of_v1, check, encoded, grpc_address, pixels
from tests.integration.server import Server, running
from tests.tiny_bundle import SUPERCLASSES
from tests.tiny_graph import SIZE

FLAT = SIZE * SIZE * 3


@pytest.fixture(scope="module")
def server(models_dir: Path) -> Iterator[Server]:
    with running(models_dir, grpc_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def speaker(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(grpc_address(server)) as client:
        yield client


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(grpc_address(server)) as channel:
        yield channel


@pytest.fixture(scope="module")
def expected(server: Server) -> list[dict[str, Any]]:
    return answers_of_v1(server)


def as_input(array: npt.NDArray[Any]) -> triton.InferInput:
    kind = "BYTES" if array.dtype == object else "UINT8"
    tensor = triton.InferInput("images", list(array.shape), kind)
    tensor.set_data_from_numpy(array)
    return tensor


def test_health_and_metadata(speaker: triton.InferenceServerClient) -> None:
    assert speaker.is_server_live()
    assert speaker.is_server_ready()
    assert speaker.is_model_ready("tiny")
    assert speaker.is_model_ready("tiny", "1")
    assert not speaker.is_model_ready("tiny", "2")
    assert not speaker.is_model_ready("other")
    about = speaker.get_server_metadata()
    assert about.name == "superbin"
    assert list(about.extensions) == ["binary_tensor_data", "classification"]


def test_a_model_is_described_as_over_http(
    speaker: triton.InferenceServerClient, server: Server
) -> None:
    known = httpx.get(f"{server.url}/v2/models/tiny").json()
    for version in ("", "1"):
        found = speaker.get_model_metadata("tiny", version)
        assert (found.name, list(found.versions), found.platform) == (
            known["name"],
            known["versions"],
            known["platform"],
        )
        for ours, theirs in ((found.inputs, "inputs"), (found.outputs, "outputs")):
            tensors = [
                {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
                for one in ours
            ]
            assert tensors == known[theirs]


@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("kind", ["pixels", "photos", "column"])
def test_pixels_and_encoded_photos_have_the_answers_of_v1(
    speaker: triton.InferenceServerClient, expected: list[dict[str, Any]], kind: str, version: str
) -> None:
    arrays = {"pixels": pixels(), "photos": encoded((-1,)), "column": encoded((-1, 1))}
    result = speaker.infer(
        "tiny",
        [as_input(arrays[kind])],
        model_version=version,
        outputs=[triton.InferRequestedOutput(name) for name in OUTPUTS],
        request_id="seven",
    )
    check(result.as_numpy("probabilities"), expected)
    answer = result.get_response()
    assert (answer.id, answer.model_name, answer.model_version) == ("seven", "tiny", "1")
    assert result.as_numpy("references").dtype == np.int64
    assert result.as_numpy("embedding").dtype == np.float32
    weights = [[one["weight"] for one in row["references"]] for row in expected]
    np.testing.assert_allclose(result.as_numpy("reference_weights"), weights, atol=1e-6)
    own = [row["self_weight"] for row in expected]
    np.testing.assert_allclose(result.as_numpy("self_weight"), own, atol=1e-6)


@pytest.mark.parametrize("array", [pixels(), encoded((-1,))], ids=["pixels", "photos"])
def test_elements_one_by_one_are_as_good(
    channel: grpc.Channel, expected: list[dict[str, Any]], array: npt.NDArray[Any]
) -> None:
    infer = channel.unary_unary(
        INFER, ModelInferRequest.SerializeToString, ModelInferResponse.FromString
    )
    answer = infer(typed(array))
    assert answer.id == "seven"
    assert [one.name for one in answer.outputs] == [*OUTPUTS, "doubts"]
    assert list(answer.outputs[0].shape) == [len(PHOTOS), len(SUPERCLASSES)]
    rows = np.frombuffer(answer.raw_output_contents[0], np.float32)
    check(rows.reshape(len(PHOTOS), -1), expected)


def test_classes_can_be_asked_for_by_name(
    speaker: triton.InferenceServerClient, expected: list[dict[str, Any]]
) -> None:
    output = triton.InferRequestedOutput("probabilities", class_count=2)
    result = speaker.infer("tiny", [as_input(pixels())], outputs=[output])
    named = result.as_numpy("probabilities")
    assert named.shape == (3, 2)
    for row, answer in zip(named, expected, strict=True):
        value, index, name = row[0].decode().split(":")
        assert name == answer["superclass"] == SUPERCLASSES[int(index)]
        assert float(value) == pytest.approx(answer["confidence"], abs=1e-6)


def test_doubts_come_along(speaker: triton.InferenceServerClient, models_dir: Path) -> None:
    result = speaker.infer("tiny", [as_input(pixels())])
    assert [one.name for one in result.get_response().outputs] == [*OUTPUTS, "doubts"]
    assert result.as_numpy("doubts").shape == (3,)


def test_a_call_has_a_line_in_the_log_and_counts(
    models_dir: Path,
) -> None:
    with running(models_dir, grpc_port=0) as server:
        with triton.InferenceServerClient(grpc_address(server)) as speaker:
            speaker.infer("tiny", [as_input(pixels())], headers={"x-request-id": "seven"})
            assert speaker.is_server_live()
            with pytest.raises(InferenceServerException, match="got 'other'"):
                speaker.infer("other", [as_input(pixels())], headers={"x-request-id": "eight"})
        scraped = httpx.get(f"{server.url}/metrics").text
    lines = {line["request_id"]: line for line in server.log_lines() if "request_id" in line}
    told = {key: lines["seven"][key] for key in ("method", "route", "code", "status", "photos")}
    assert told == {
        "method": "GRPC",
        "route": INFER,
        "code": 200,
        "status": "OK",
        "photos": 3,
    }
    assert (lines["eight"]["code"], lines["eight"]["status"]) == (404, "NOT_FOUND")
    assert not any(line.get("route") == f"{SERVICE}/ServerLive" for line in lines.values())
    for line in (
        f'superbin_requests_total{{code="200",method="GRPC",route="{INFER}"}} 1.0',
        f'superbin_requests_total{{code="404",method="GRPC",route="{INFER}"}} 1.0',
        f'superbin_requests_total{{code="200",method="GRPC",route="{SERVICE}/ServerLive"}} 1.0',
        f'superbin_request_duration_seconds_count{{route="{INFER}"}} 2.0',
        'superbin_rejections_total{reason="unknown_model"} 1.0',
        "superbin_queue_photos 0.0",
        "superbin_queue_bytes 0.0",
    ):
        assert line in scraped
