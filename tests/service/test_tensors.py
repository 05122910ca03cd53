"""Tensors that come element by element are read whole, and others are let in between."""

from __future__ import annotations

import gc
import json
from typing import Any

import numpy as np
import pytest

from service.bundle import Manifest, read_manifest
from service.preprocess import Preprocessing
from service.tensor_json import read_inference
from service.tensors import PIECE, Tensor, TensorMalformed, photos_of
from tests.tiny_bundle import write_bundle

SIZE = 160  # of which a photo has more numbers than a piece
PHOTOS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    found = read_manifest(write_bundle(tmp_path_factory.mktemp("models")))
    large = Preprocessing(height=SIZE, width=SIZE)
    return found.model_copy(update={"preprocessing": large})


class Noted(list[Any]):
    """A list that notes how many of its elements are taken at once."""

    def __init__(self, elements: list[Any]) -> None:
        super().__init__(elements)
        self.most = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        self.most = max(self.most, len(found) if isinstance(place, slice) else 1)
        return found

    def __array__(self, *given: Any, **named: Any) -> Any:
        raise AssertionError("expected pieces, got all of it at once")


def nested(*shape: int) -> list[Any]:
    found: list[Any] = PHOTOS.reshape(shape).tolist()
    return found


@pytest.mark.parametrize(
    "elements",
    [
        nested(-1),
        nested(3, SIZE, SIZE, 3),
        nested(3, -1),
        nested(3 * SIZE, SIZE, 3),
        nested(3 * SIZE * SIZE, 3),
    ],
    ids=["flat", "whole", "photos", "rows", "pixels"],
)
def test_numbers_are_the_same_however_they_are_nested(
    manifest: Manifest, elements: list[Any]
) -> None:
    found = photos_of(Tensor("UINT8", list(PHOTOS.shape), None, elements), manifest)
    np.testing.assert_array_equal(np.stack(found), PHOTOS)  # type: ignore[arg-type]


def test_no_more_numbers_than_a_piece_are_made_an_array_at_once(manifest: Manifest) -> None:
    rows = [Noted(photo) for photo in nested(3, SIZE, SIZE, 3)]
    photos_of(Tensor("UINT8", list(PHOTOS.shape), None, rows), manifest)
    assert {row.most for row in rows} == {PIECE // (3 * SIZE)}


def test_lists_of_different_lengths_are_refused_though_their_number_is_right(
    manifest: Manifest,
) -> None:
    longer = nested(3, SIZE, SIZE, 3)
    longer[0].append(longer[1].pop())
    uneven = nested(3 * SIZE * SIZE, 3)
    uneven[0].append(uneven[1].pop())
    for elements in (longer, uneven):
        with pytest.raises(TensorMalformed, match="numbers from 0 to 255: "):
            photos_of(Tensor("UINT8", list(PHOTOS.shape), None, elements), manifest)


def test_nothing_is_collected_while_a_long_json_is_read(manifest: Manifest) -> None:
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(PHOTOS.shape)}
    body = json.dumps({"inputs": [tensor | {"data": PHOTOS.tolist()}]}).encode()
    collected: list[str] = []

    def note(phase: str, about: object) -> None:
        collected.append(phase)

    gc.collect()
    gc.callbacks.append(note)
    try:
        asked = read_inference(body, None, manifest)
    finally:
        gc.callbacks.remove(note)
    assert len(asked.photos) == 3
    assert len(collected) <= 2 * 2  # at its beginning and its end at most, each twice told
    assert gc.isenabled()
