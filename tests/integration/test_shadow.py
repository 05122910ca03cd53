"""What a shadow sees of the Open Inference Protocol; of `/v1` it is `test_swap` that tells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton

from tests.integration.asking import files
from tests.integration.grpc_asking import asked, infer, typed
from tests.integration.inference import PHOTOS, encoded, pixels
from tests.integration.server import Server, until
from tests.integration.test_inference_protocol import as_input
from tests.integration.test_swap import ADMIN, ask, folder, served, shadow_counts
from tests.tiny_bundle import write_bundle
from tests.tiny_graph import SIZE

__all__ = ["folder"]

ARRAYS = [pixels(), encoded((len(PHOTOS),))]


def look_on(client: httpx.Client, version: str) -> None:
    params = {"version": version, "share": 1.0}
    client.post("/v1/models/tiny/shadow", params=params, headers=ADMIN).raise_for_status()


def has_seen(client: httpx.Client, photos: int) -> bool:
    return sum(shadow_counts(client, "tiny/2").values()) == photos


def over_http(server: Server, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as speaker:
        answer = speaker.infer("tiny", [as_input(array, binary=True)])
    found: npt.NDArray[np.float32] = answer.as_numpy("probabilities")
    return found


def over_grpc(server: Server, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with asked(server) as channel:
        answer = infer(channel)(typed(array), timeout=30)
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    return found.reshape(len(array), -1)


@pytest.mark.parametrize("over", [over_http, over_grpc])
def test_a_shadow_sees_pixels_and_encoded_photos_of_either_way_and_never_answers(
    folder: Path, over: Callable[[Server, npt.NDArray[Any]], npt.NDArray[np.float32]]
) -> None:
    write_bundle(folder, version="2", seed=1)  # other answers
    with served(folder, model="tiny/1", grpc_port=0) as (server, client):
        before = [over(server, array) for array in ARRAYS]
        look_on(client, "2")
        pixels_seen, all_seen = len(PHOTOS), 2 * len(PHOTOS)
        for array, known, seen in zip(ARRAYS, before, (pixels_seen, all_seen), strict=True):
            np.testing.assert_allclose(over(server, array), known, atol=1e-6)
            until(partial(has_seen, client, seen), "the shadow to have seen them")
        assert shadow_counts(client, "tiny/2")["disagreed"] > 0


def test_pixels_of_another_size_are_not_for_a_shadow(folder: Path) -> None:
    write_bundle(folder, version="2", size=2 * SIZE)
    with served(folder, model="tiny/1") as (server, client):
        look_on(client, "2")
        over_http(server, pixels())
        over_http(server, encoded((len(PHOTOS),)))
        assert ask(client).status_code == 200
        until(partial(has_seen, client, len(PHOTOS) + 1), "the shadow to have seen the others")
        assert "failed" not in shadow_counts(client, "tiny/2")


def test_a_version_is_listed_as_the_shadow_and_is_none_of_itself(folder: Path) -> None:
    write_bundle(folder, version="2", seed=1)
    with served(folder, model="tiny/1") as (_, client):
        itself = client.post("/v1/models/tiny/shadow", params={"version": "1"}, headers=ADMIN)
        assert itself.status_code == 409
        assert "expected a version beside tiny/1, which answers" in itself.json()["detail"]
        look_on(client, "2")
        listed = client.get("/v1/models").json()["models"]
        assert {one["version"]: one["shadow"] for one in listed} == {"1": None, "2": 1.0}
        ask(client).raise_for_status()
        until(partial(has_seen, client, 1), "the shadow to have seen it")
        client.post("/v1/models/tiny/load", params={"version": "2"}, headers=ADMIN)
        for _ in range(3):
            assert ask(client).json()["model"]["version"] == "2"
        client.post("/v1/models/tiny/load", params={"version": "1"}, headers=ADMIN)
        ask(client).raise_for_status()
        until(partial(has_seen, client, 2), "the shadow to have seen what it could be compared on")


def test_a_shadow_keeps_no_more_bytes_than_it_may(folder: Path) -> None:
    """They are on top of those that the queue counts, for as long as the shadow takes."""
    photo = PHOTOS[0]
    large = photo + bytes(17_000_000)  # what follows a photo's end is no part of it
    write_bundle(folder, version="2")
    with served(folder, model="tiny/1") as (_, client):
        look_on(client, "2")
        client.post("/v1/classify", files=files(large, large)).raise_for_status()
        until(lambda: shadow_counts(client, "tiny/2") == {"skipped": 2}, "too many to be skipped")
        client.post("/v1/classify", files=files(large, photo)).raise_for_status()
        until(
            lambda: shadow_counts(client, "tiny/2") == {"skipped": 2, "agreed": 2},
            "the others to be seen",
        )
