"""The answer never depends on who else is there: through the real server, in any company."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.server import running
from tests.photo_factory import noise, png

PHOTOS = sorted((Path(__file__).parent.parent / "photos").glob("*.jpg"))
TOLERANCE = 2e-6  # answers have six digits; float32 sums may differ in the seventh
Files = list[tuple[str, tuple[str, bytes, str]]]

HOSTILE = {
    "bomb.png": png(50_000, 50_000),
    "empty.jpg": b"",
    "truncated.jpg": noise(99)[:-500],
    "text.jpg": b"this is no photo",
    "huge.jpg": b"\xff" * 1_500_000,
}


@pytest.fixture(scope="module")
def client(models_dir: Path) -> Iterator[httpx.Client]:
    """Of a server with a small limit, so that a huge neighbour need not be huge."""
    settings = {"max_photo_bytes": 1_000_000, "max_batch": 16, "max_photos": 32}
    with (
        running(models_dir, **settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def photos() -> dict[str, bytes]:
    """Sixteen different ones, real and drawn."""
    real = {path.name: path.read_bytes() for path in PHOTOS}
    return real | {f"noise{i}.jpg": noise(i) for i in range(16 - len(real))}


@pytest.fixture(scope="module")
def alone(client: httpx.Client, photos: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """What each photo's answer is when nobody else is there."""
    return {name: ask(client, {name: data})[0] for name, data in photos.items()}


def ask(client: httpx.Client, photos: dict[str, bytes]) -> list[dict[str, Any]]:
    files: Files = [("file", (name, data, "image/jpeg")) for name, data in photos.items()]
    response = client.post("/v1/classify", files=files)
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    assert [result["filename"] for result in results] == list(photos)
    return results


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    for exact in ("filename", "superclass", "decision"):
        assert found[exact] == expected[exact]
    assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=TOLERANCE)
    assert found["confidence"] == pytest.approx(expected["confidence"], abs=TOLERANCE)
    assert found["self_weight"] == pytest.approx(expected["self_weight"], abs=TOLERANCE)
    assert [r["id"] for r in found["references"]] == [r["id"] for r in expected["references"]]
    assert [r["weight"] for r in found["references"]] == pytest.approx(
        [r["weight"] for r in expected["references"]], abs=TOLERANCE
    )


def test_the_photos_have_different_answers(alone: dict[str, dict[str, Any]]) -> None:
    assert len({answer["confidence"] for answer in alone.values()}) == len(alone)
    assert len({answer["superclass"] for answer in alone.values()}) > 1


@pytest.mark.parametrize("size", range(1, 17))
def test_in_a_batch_of_any_size_and_order(
    client: httpx.Client,
    photos: dict[str, bytes],
    alone: dict[str, dict[str, Any]],
    size: int,
) -> None:
    shuffle = random.Random(size)
    for _ in range(2):
        names = shuffle.sample(sorted(photos), size)
        for result in ask(client, {name: photos[name] for name in names}):
            assert_same(result, alone[result["filename"]])


def test_next_to_the_same_photo_many_times(
    client: httpx.Client, photos: dict[str, bytes], alone: dict[str, dict[str, Any]]
) -> None:
    data = photos["glass.jpg"]
    for result in ask(client, {f"{i}.jpg": data for i in range(16)}):
        assert_same(result | {"filename": "glass.jpg"}, alone["glass.jpg"])


@pytest.mark.parametrize("seed", range(4))
def test_next_to_hostile_neighbours(
    client: httpx.Client, photos: dict[str, bytes], alone: dict[str, dict[str, Any]], seed: int
) -> None:
    everyone = list((photos | HOSTILE).items())
    random.Random(seed).shuffle(everyone)
    for result in ask(client, dict(everyone)):
        if result["filename"] in HOSTILE:
            assert result["error"]["status"] in (400, 413, 415, 422)
        else:
            assert_same(result, alone[result["filename"]])


def test_among_many_requests_at_the_same_time(
    client: httpx.Client, photos: dict[str, bytes], alone: dict[str, dict[str, Any]]
) -> None:
    """Each request's answer is its own, also while batches mix photos of several requests."""
    orders = random.Random(7)
    requests = [orders.sample(sorted(photos), orders.randint(1, 4)) for _ in range(48)]
    with ThreadPoolExecutor(12) as pool:
        answers = pool.map(lambda names: ask(client, {n: photos[n] for n in names}), requests)
        for results in answers:
            for result in results:
                assert_same(result, alone[result["filename"]])
    metrics = client.get("/metrics").text
    batches = float(metrics.split("superbin_batch_photos_count ")[1].split()[0])
    ran = float(metrics.split("superbin_batch_photos_sum ")[1].split()[0])
    assert ran > batches, "no two photos ever ran together, so nothing was tested"
