"""How sure answers are of items: two numbers that val's items are likeliest with."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from service.bundle import read_bundle, read_manifest, write_manifest
from service.classifier import Classifier
from service.fitted import ItemSpread
from service.preprocess import decode
from service.sites import Site
from service.sorting import Sorter
from tests.tiny_matching import (
    KINDS,
    SPEC,
    SUPERCLASSES,
    add_val,
    write_bundle,
    write_photos,
)
from tests.tiny_site import TINY, tiny_site
from training.data.photos import photo_bytes, read_photos
from training.errors import ConfigError, DataError
from training.item_reference import fit_item_spread, with_item_spread
from training.reference import add_references

# Items 0, 1 and 2 are of one superclass, 3 of another; the bank has four times as many of 2 as of 1
SUPERCLASS = np.array([0, 0, 0, 1])
OFTEN = np.array([5.0, 1.0, 4.0, 2.0])


def drawn(
    n: int, temperature: float, unnamed: float, seed: int = 0
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """References, their weights, and items that are as probable as the definition says."""
    random = np.random.default_rng(seed)
    cited = random.integers(0, 4, (n, 5))
    weights = random.dirichlet([0.3] * 5, n)
    true = np.empty(n, dtype=np.int64)
    for row in range(n):
        mine = SUPERCLASS[cited[row]] == 0
        share = np.zeros(4)
        for item, weight in zip(cited[row, mine], weights[row, mine], strict=True):
            share[item] += weight ** (1.0 / temperature)
        prior = np.where(SUPERCLASS == 0, OFTEN, 0.0) / OFTEN[SUPERCLASS == 0].sum()
        named = share / share.sum() if share.sum() else prior
        true[row] = random.choice(4, p=(1.0 - unnamed) * named + unnamed * prior)
    return cited, weights, true


def fitted(
    cited: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], true: npt.NDArray[np.int64]
) -> ItemSpread:
    heavy = np.ones_like(weights)
    return fit_item_spread(cited, weights, heavy, true=true, superclass=SUPERCLASS, often=OFTEN)


@pytest.mark.parametrize(("temperature", "unnamed"), [(1.0, 0.1), (3.0, 0.05), (0.6, 0.3)])
def test_the_numbers_that_made_the_items_are_found(temperature: float, unnamed: float) -> None:
    found = fitted(*drawn(20_000, temperature, unnamed))
    assert found.temperature == pytest.approx(temperature, rel=0.1)
    assert found.unnamed == pytest.approx(unnamed, abs=0.02)
    assert (found.split, found.photos) == ("val", 20_000)


def test_references_that_say_nothing_of_items_are_not_believed() -> None:
    cited, weights, true = drawn(5_000, 1.0, 1.0)
    assert fitted(cited, weights, true).unnamed > 0.95


def test_a_few_right_ones_prove_little() -> None:
    cited = np.zeros((30, 5), dtype=np.int64)
    weights = np.full((30, 5), 0.2)
    assert fitted(cited, weights, np.zeros(30, dtype=np.int64)).unnamed >= 1.0 / 32.0


def test_heavy_items_count_as_many() -> None:
    cited, weights, true = drawn(5_000, 2.0, 0.1)
    same = {"true": true, "superclass": SUPERCLASS, "often": OFTEN}
    once = fit_item_spread(cited, weights, np.ones_like(weights), **same)
    four = fit_item_spread(cited, weights, np.full_like(weights, 4.0), **same)
    assert once.temperature == pytest.approx(four.temperature, rel=1e-3)
    heavy = np.where(cited == 1, 50.0, 1.0)  # what the items were not drawn by
    assert fit_item_spread(cited, weights, heavy, **same).unnamed > once.unnamed + 0.05


def test_a_bundle_is_told_and_its_card_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_bundle(tmp_path / "models")
    (path / "CARD.md").write_text("# bins/1\n\n## Provenance\n\nHere.\n")
    data = write_photos(tmp_path / "data", splits={"train": 1, "val": 6}, first=100)
    before = read_manifest(path)
    add_references(path, data, None, only=["items"])
    spread = read_bundle(path).manifest.item_spread
    assert spread is not None
    assert spread.photos == 6 * len(KINDS)
    assert read_manifest(path).model_copy(update={"item_spread": None}) == before
    assert f"{spread.unnamed:.1%} for those" in capsys.readouterr().out
    text = (path / "CARD.md").read_text()
    assert text.index("## Items") < text.index("## Provenance")
    add_references(path, data, None, only=["items"])  # made anew, in its place
    assert (path / "CARD.md").read_text() == text


def test_own_photos_need_neither_every_superclass_nor_a_train_split(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "models")
    (path / "CARD.md").write_text("# bins/1\n\n## Provenance\n\nHere.\n")
    data = write_photos(tmp_path / "data", ["can", "peel"], {"val": 20}, first=100)
    add_references(path, data, None, only=["items"])
    spread = read_manifest(path).item_spread
    assert spread is not None
    assert spread.photos == 40


def one_bin_an_item() -> Site:
    """Its probabilities are those of items."""
    return tiny_site(
        {"bins": {kind: copy.deepcopy(TINY["bins"]["rest"]) for kind in KINDS}}
        | {"items": {kind: kind for kind in KINDS}}
        | {"superclasses": {superclass: kind for kind, (superclass, _) in KINDS.items()}}
        | {"costs": {"manual": 0.3, "wrong": 1.0}, "hazards.superclasses": []}
    )


def test_the_numbers_are_likeliest_as_a_site_believes_items_heavy_ones_more(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "models")
    manifest = read_manifest(path)
    mixed = {"battery": "paint", "paint": "battery", "can": "paper", "paper": "can"}
    items = tuple(
        item.model_copy(update={"subclass": mixed[item.subclass], "weight": 2.0})
        if item.subclass in ("battery", "can") and place % 8 < 2
        else item
        for place, item in enumerate(manifest.bank.items)
    )
    bank = manifest.bank.model_copy(update={"items": items})
    data = read_photos(write_photos(tmp_path / "data", mixed, {"val": 25}, 100), to_learn=False)
    photos = tuple(
        replace(photo, subclass=mixed[photo.subclass or ""]) if place % 4 == 0 else photo
        for place, photo in enumerate(data.photos)
    )
    data = replace(data, photos=photos)
    spread = with_item_spread(path, manifest.model_copy(update={"bank": bank}), data).item_spread
    assert spread is not None
    classifier = Classifier(read_bundle(path), threads=1)
    answers = [
        classifier.run(decode(photo_bytes(data.root, photo), SPEC)[np.newaxis])
        for photo in data.photos
    ]

    def loss(temperature: float, unnamed: float) -> float:
        told = spread.model_copy(update={"temperature": temperature, "unnamed": unnamed})
        sorter = Sorter(one_bin_an_item(), SUPERCLASSES, items, told)
        found = []
        for photo, answer in zip(data.photos, answers, strict=True):
            cited = zip(answer.references[0], answer.reference_weights[0], strict=True)
            certain = [float(name == photo.superclass) for name in SUPERCLASSES]
            places, _ = sorter.probabilities(certain, [(int(i), float(w)) for i, w in cited])
            found.append(places[sorter.choices.index(photo.subclass or "")])
        return float(-np.log(found).mean())

    best = loss(spread.temperature, spread.unnamed)
    for of_temperature, of_unnamed in itertools.product((0.95, 1.0, 1.05), repeat=2):
        moved = loss(spread.temperature * of_temperature, spread.unnamed * of_unnamed)
        assert moved >= best, (of_temperature, of_unnamed)


def test_photos_that_the_bank_has_under_other_names_say_nothing_of_items(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_bundle(tmp_path / "models")
    data = write_photos(tmp_path / "data", splits={"val": 6}, first=100)
    fair = with_item_spread(path, read_manifest(path), read_photos(data, to_learn=False))
    assert "left out" not in capsys.readouterr().out
    add_val(data, range(8))  # the bank's own
    again = with_item_spread(path, read_manifest(path), read_photos(data, to_learn=False))
    assert again.item_spread == fair.item_spread
    assert "items from val: 48 of 84 photos are left out" in capsys.readouterr().out


def test_too_few_photos_change_nothing_and_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_bundle(tmp_path / "models", without=["paint", "can", "paper", "mug"])
    told = ItemSpread(temperature=2.0, unnamed=0.1, split="val", photos=40)
    write_manifest(path, read_manifest(path).model_copy(update={"item_spread": told}))
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    few = write_photos(tmp_path / "few", splits={"val": 14}, first=100)
    known = write_photos(tmp_path / "known", splits={"val": 18}, first=0)  # 8 of them in the bank
    for data, photos in ((few, 28), (known, 20)):
        with pytest.raises(DataError, match=f"expected at least 30 photos of val .* got {photos}"):
            add_references(path, data, None, only=["items"])
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_where_all_parts_are_made_too_few_photos_of_items_stop_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_bundle(tmp_path / "models")
    told = ItemSpread(temperature=2.0, unnamed=0.1, split="val", photos=40)
    manifest = read_manifest(path)
    items = tuple(item.model_copy(update={"subclass": None}) for item in manifest.bank.items)
    bank = manifest.bank.model_copy(update={"items": items})
    write_manifest(path, manifest.model_copy(update={"item_spread": told, "bank": bank}))
    data = write_photos(tmp_path / "data", splits={"train": 8, "val": 17})
    add_references(path, data, None)
    manifest = read_bundle(path).manifest
    assert manifest.item_spread == told
    assert manifest.drift is not None
    assert "nothing new of items: expected at least 30 photos" in capsys.readouterr().out


def test_a_part_that_there_is_not_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = write_bundle(tmp_path / "models")
    with pytest.raises(ConfigError, match="expected --only doubts, items, drift, got bins"):
        add_references(path, tmp_path, None, only=["bins"])
