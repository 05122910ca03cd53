"""What of a guide counted, in the Open Inference Protocol: over HTTP and over gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from service.bundle import GUIDE_OUTPUTS, OUTPUTS, read_manifest
from tests.integration.inference import answers_of_v1, grpc_address, pixels
from tests.integration.server import Server, running
from tests.tiny_bundle import add_guide, write_bundle

GIVEN = [*OUTPUTS, *GUIDE_OUTPUTS, "doubts"]
WAYS = ["http", "grpc"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny/1` without a guide, `guided/1` with one."""
    models = tmp_path_factory.mktemp("models")
    write_bundle(models)
    add_guide(write_bundle(models, "guided"))
    return models


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[Server]:
    with running(models, model="guided,tiny", grpc_port=0) as server:
        yield server


@pytest.fixture
def speaker(server: Server, way: str) -> Iterator[Any]:
    """Triton's own client, by either way."""
    if way == "http":
        address = server.url.removeprefix("http://")
        with tritonclient.http.InferenceServerClient(address) as client:
            yield client
    else:
        with tritonclient.grpc.InferenceServerClient(grpc_address(server)) as client:
            yield client


def infer(speaker: Any, way: str, model: str, names: list[str] | None = None) -> Any:
    words = tritonclient.http if way == "http" else tritonclient.grpc
    tensor = words.InferInput("images", list(pixels().shape), "UINT8")
    tensor.set_data_from_numpy(pixels())
    outputs = None if names is None else [words.InferRequestedOutput(name) for name in names]
    return speaker.infer(model, [tensor], outputs=outputs)


def described(speaker: Any, model: str) -> dict[str, tuple[str, list[int]]]:
    """The outputs that the metadata list, with datatype and shape."""
    found = speaker.get_model_metadata(model)
    if not isinstance(found, dict):
        return {one.name: (one.datatype, list(one.shape)) for one in found.outputs}
    return {one["name"]: (one["datatype"], one["shape"]) for one in found["outputs"]}


@pytest.mark.parametrize("way", WAYS)
def test_a_model_with_a_guide_gives_what_of_it_counted(
    speaker: Any, way: str, server: Server, models: Path
) -> None:
    guide = [thing.name for thing in read_manifest(models / "guided" / "1").guide]
    for names in (None, [*GUIDE_OUTPUTS]):
        result = infer(speaker, way, "guided", names)
        things, weights = (result.as_numpy(name) for name in GUIDE_OUTPUTS)
        assert (things.dtype, weights.dtype) == (np.int64, np.float32)
        for row, shares, answer in zip(things, weights, answers_of_v1(server), strict=True):
            told = [(thing["name"], thing["weight"]) for thing in answer["guide"]]
            assert [guide[place] for place in row] == [name for name, _ in told]
            np.testing.assert_allclose(shares, [weight for _, weight in told], atol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_metadata_list_what_is_given_where_nothing_is_named(speaker: Any, way: str) -> None:
    about = described(speaker, "guided")
    assert list(about) == GIVEN
    assert (about["things"], about["thing_weights"]) == (("INT64", [-1, -1]), ("FP32", [-1, -1]))
    answer = infer(speaker, way, "guided").get_response()
    outputs = answer["outputs"] if way == "http" else answer.outputs
    assert [one["name"] if way == "http" else one.name for one in outputs] == GIVEN


@pytest.mark.parametrize("way", WAYS)
def test_a_model_without_a_guide_neither_lists_nor_gives_it(speaker: Any, way: str) -> None:
    assert list(described(speaker, "tiny")) == [*OUTPUTS, "doubts"]
    with pytest.raises(InferenceServerException, match=r"expected outputs of .*, got 'things'"):
        infer(speaker, way, "tiny", ["things"])
