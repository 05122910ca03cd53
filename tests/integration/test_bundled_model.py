"""The bundled models through the real server: whole, right, and always the same.

Their figures are in their cards. The photos here are TrashNet's and may be among those they know:
they show that the parts fit together, not how good it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.bundle import read_bundle
from tests.integration.server import ROOT, running

MODELS = ROOT / "models"
EXPECTED = {
    "cardboard": "recyclable",
    "glass": "recyclable",
    "metal": "recyclable",
    "paper": "recyclable",
    "plastic": "recyclable",
    "trash": "residual",
}
MOST_BYTES = 30_000_000
BUNDLES = sorted(f"{path.parent.name}/{path.name}" for path in MODELS.glob("*/*"))


@pytest.fixture(scope="module", params=BUNDLES)
def bundled(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with (
        running(MODELS, model=request.param) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        yield client


def photo(name: str) -> bytes:
    return (ROOT / "tests" / "photos" / f"{name}.jpg").read_bytes()


def ask(client: httpx.Client, names: list[str]) -> list[dict[str, float]]:
    files = [("file", (f"{name}.jpg", photo(name))) for name in names]
    answer = client.post("/v1/classify", files=files)
    answer.raise_for_status()
    return [result["probabilities"] for result in answer.json()["results"]]


@pytest.mark.parametrize("name", BUNDLES)
def test_it_is_whole_and_small(name: str) -> None:
    bundle = read_bundle(MODELS / name)
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) <= MOST_BYTES
    assert bundle.manifest.superclasses == ("hazardous", "organic", "recyclable", "residual")
    assert (bundle.path / "CARD.md").is_file()


def test_it_names_the_bin_of_real_photos(bundled: httpx.Client) -> None:
    for name, probabilities in zip(EXPECTED, ask(bundled, list(EXPECTED)), strict=True):
        assert max(probabilities, key=probabilities.__getitem__) == EXPECTED[name], name


def test_its_answers_do_not_depend_on_who_else_is_there(bundled: httpx.Client) -> None:
    alone = {name: ask(bundled, [name])[0] for name in EXPECTED}
    drawn = random.Random(0)
    for size in range(1, 17):
        names = drawn.choices(list(EXPECTED), k=size)
        for name, probabilities in zip(names, ask(bundled, names), strict=True):
            assert probabilities == pytest.approx(alone[name], abs=2e-6)


@pytest.mark.parametrize("name", BUNDLES)
def test_the_card_has_the_figures_of_the_manifest(name: str) -> None:
    bundle = read_bundle(MODELS / name)
    card = Path(bundle.path / "CARD.md").read_text(encoding="utf-8")
    for metric in bundle.manifest.metrics:
        if "ece" not in metric.name:
            assert f"{metric.value:.2%}" in card
