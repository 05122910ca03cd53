"""Functional Map of the World (fMoW-rgb) through its official layout, of generated images."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from service.preprocess import Preprocessing
from tests.photo_factory import noise
from tests.training_runs import fill_column
from training.data.photos import MAPS, PhotoSet, read_photos
from training.data.store import open_store
from training.data.superclass_map import read_map
from training.errors import DataError

SPEC = Preprocessing(height=32, width=32)
REGION_OF = {
    **{"KEN": "Africa", "BRA": "Americas", "JPN": "Asia", "FRA": "Europe"},
    **{"FJI": "Oceania", "CA-": "others"},
}
PLACES = {"train": 30, "val": 2}  # of each country
VIEWS = 2
PHOTO = noise(0)


def view(folder: Path, name: str, country: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("rgb", "msrgb"):
        (folder / f"{name}_{kind}.jpg").write_bytes(PHOTO)
        facts = {"country_code": country, "gsd": 0.5, "bounding_boxes": [{"category": "dam"}]}
        (folder / f"{name}_{kind}.json").write_text(json.dumps(facts))


def fmow(root: Path) -> Path:
    for split, places in PLACES.items():
        for k, country in enumerate(REGION_OF):
            category = ("dam", "crop_field")[k % 2]
            for place in range(places):
                name = f"{category}_{k * places + place}"
                for index in range(VIEWS):
                    view(root / split / category / name, f"{name}_{index}", country)
    (root / "test" / "0000001").mkdir(parents=True)
    (root / "test" / "0000001" / "0000001_0_rgb.jpg").write_bytes(PHOTO)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outer = tmp_path_factory.mktemp("fmow")
    fmow(outer / "fmow-rgb")
    return outer


@pytest.fixture(scope="module")
def data(root: Path) -> PhotoSet:
    return read_photos(root, val_fraction=0.3)


def test_the_map_has_every_country_code_of_iso_once_in_one_of_six_regions() -> None:
    owner = read_map(MAPS / "fmow.toml")
    text = (MAPS / "fmow.toml").read_text(encoding="utf-8")
    assert len(owner) == text.count('"') // 2 == 249 + 2  # ISO's, and two of the dataset's own
    assert set(Counter(owner.values())) == {
        *("Africa", "Americas", "Asia", "Europe", "Oceania", "others")
    }
    assert owner["TUR"] == "Asia"  # where M49 has them
    assert owner["RUS"] == "Europe"
    assert owner["ATA"] == owner["KO-"] == "others"


def test_the_region_is_the_superclass_and_the_category_the_subclass(data: PhotoSet) -> None:
    assert set(data.superclasses) == set(REGION_OF.values())
    counts = Counter(photo.superclass for photo in data.split("test"))
    assert counts == dict.fromkeys(REGION_OF.values(), VIEWS * PLACES["val"])
    assert {photo.subclass for photo in data.photos} == {"dam", "crop_field"}
    assert all(photo.path.endswith("_rgb.jpg") for photo in data.photos)
    assert not any(photo.path.startswith("fmow-rgb/test/") for photo in data.photos)


def test_views_of_one_place_stay_together(data: PhotoSet) -> None:
    splits = defaultdict(set)
    for photo in data.photos:
        splits[Path(photo.path).parent].add(photo.split)
    assert all(len(found) == 1 for found in splits.values())
    assert 0.2 < len(data.split("val")) / (6 * VIEWS * PLACES["train"]) < 0.4


def test_the_photos_decode(data: PhotoSet, root: Path, tmp_path: Path) -> None:
    store = open_store(root, data.split("test"), SPEC, tmp_path)
    assert not store.bad
    assert store.pixels.shape == (len(data.split("test")), 32, 32, 3)


def test_a_code_in_no_region_is_left_out_and_told(tmp_path: Path) -> None:
    root = fmow(tmp_path / "fmow")
    view(root / "train" / "zoo" / "zoo_0", "zoo_0_0", "XYZ")
    data = read_photos(root, val_fraction=0.3)
    assert data.unusable() == {"train/zoo/zoo_0/zoo_0_0_rgb.jpg": "no superclass has 'XYZ'"}


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (b'{"country_code": "FR', "expected a JSON object with country_code"),
        (b'{"gsd": 1}', "expected a JSON object with country_code: KeyError"),
        (b"[1]", "expected a JSON object with country_code"),
        (b"[" * 100_000, "expected a JSON object with country_code"),
        (b'{"country_code": 7}', "expected a country_code of letters, got 7"),
        (b"\xff\xfe", "expected text in UTF-8"),
        (None, "expected a text file"),
    ],
)
def test_facts_of_another_form_are_refused(tmp_path: Path, facts: bytes | None, told: str) -> None:
    root = fmow(tmp_path / "fmow")
    file = root / "train" / "dam" / "dam_0" / "dam_0_0_rgb.json"
    file.unlink()
    if facts is not None:
        file.write_bytes(facts)
    with pytest.raises(DataError, match=told):
        read_photos(root)


def test_a_photo_whose_name_is_not_utf_8_is_left_out_and_told(tmp_path: Path) -> None:
    root = fmow(tmp_path / "fmow")
    zoo = root / "train" / "zoo" / "zoo_0"
    view(zoo, "zoo_0_0", "TUR")
    for ending in ("jpg", "json"):
        (zoo / f"zoo_0_0_rgb.{ending}").rename(zoo / f"z\udcfc_rgb.{ending}")
    data = read_photos(root, val_fraction=0.3)
    assert data.unusable() == {r"train/zoo/zoo_0/z\xfc_rgb.jpg": "its name is not in UTF-8"}


def test_its_column_of_the_table_is_filled(root: Path, tmp_path: Path) -> None:
    lines = fill_column("FMoW", root, tmp_path / "results")
    assert [line["method"] for line in lines] == ["cross-entropy", "SCLRE"]
    assert all(line["accuracy (bank)"] is not None for line in lines)
