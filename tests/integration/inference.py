"""What the tests of the Open Inference Protocol share, over HTTP and over gRPC."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from service.preprocess import Preprocessing, decode
from tests.integration.server import Server
from tests.tiny_bundle import SUPERCLASSES
from tests.tiny_graph import SIZE

PHOTOS = [
    (Path(__file__).parent.parent / "photos" / f"{name}.jpg").read_bytes()
    for name in ("glass", "metal", "paper")
]
SPEC = Preprocessing(height=SIZE, width=SIZE)


def answers_of_v1(server: Server) -> list[dict[str, Any]]:
    """What `/v1/classify` says of each photo alone."""
    headers = {"content-type": "image/jpeg"}
    answers = [
        httpx.post(f"{server.url}/v1/classify", content=photo, headers=headers).json()
        for photo in PHOTOS
    ]
    return [answer["results"][0] for answer in answers]


def pixels() -> npt.NDArray[np.uint8]:
    return np.stack([decode(photo, SPEC) for photo in PHOTOS])


def encoded(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    photos = np.empty(len(PHOTOS), dtype=object)
    photos[:] = PHOTOS
    return photos.reshape(shape)


def check(probabilities: npt.NDArray[Any], expected: list[dict[str, Any]]) -> None:
    assert probabilities.shape == (len(PHOTOS), len(SUPERCLASSES))
    for row, answer in zip(probabilities, expected, strict=True):
        known = [answer["probabilities"][name] for name in SUPERCLASSES]
        np.testing.assert_allclose(row, known, atol=1e-6)


def grpc_address(server: Server) -> str:
    """Where it said that gRPC is."""
    (port,) = re.findall(r"for gRPC at port (\d+)", "".join(server.stderr))
    return f"127.0.0.1:{port}"
