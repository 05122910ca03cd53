"""mini-ImageNet through its official layout, of generated images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from service.preprocess import Preprocessing
from tests.photo_factory import noise
from tests.training_runs import fill_column
from training.data.photos import MAPS, PhotoSet, read_photos
from training.data.store import open_store
from training.data.superclass_map import read_map
from training.errors import DataError

CLASSES = {  # by the table that lists them, as officially
    "train.csv": {"n01532829": "animals", "n03400231": "non-animals"},
    "val.csv": {"n01855672": "animals", "n02950826": "non-animals"},
    "test.csv": {"n02129165": "animals", "n04522168": "non-animals"},
}
EACH = 30
SPEC = Preprocessing(height=32, width=32)


def mini_imagenet(root: Path) -> Path:
    (root / "images").mkdir(parents=True)
    for table, classes in CLASSES.items():
        lines = ["filename,label"]
        for label in classes:
            for index in range(1, EACH + 1):
                name = f"{label}{index:08}.jpg"
                (root / "images" / name).write_bytes(noise(index))
                lines.append(f"{name},{label}")
        (root / table).write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini_imagenet(tmp_path_factory.mktemp("mini") / "root")


@pytest.fixture(scope="module")
def data(root: Path) -> PhotoSet:
    return read_photos(root)


def test_the_map_has_the_hundred_classes() -> None:
    owner = read_map(MAPS / "mini-imagenet.toml")
    assert len(owner) == 100
    assert Counter(owner.values()) == {"animals": 35, "non-animals": 65}
    assert owner["n01704323"] == "animals"  # triceratops
    assert owner["n04275548"] == owner["n09256479"] == "non-animals"  # spider web, coral reef


def test_the_tables_are_one_and_every_class_is_in_train(data: PhotoSet) -> None:
    expected = {label: name for classes in CLASSES.values() for label, name in classes.items()}
    assert len(data.photos) == EACH * len(expected)
    assert {photo.subclass: photo.superclass for photo in data.split("train")} == expected
    assert all(photo.source == "mini-imagenet" for photo in data.photos)
    for split in ("val", "test"):
        assert 0.03 < len(data.split(split)) / len(data.photos) < 0.2
        assert len({photo.subclass for photo in data.split(split)}) > 3


def test_the_photos_decode(data: PhotoSet, root: Path, tmp_path: Path) -> None:
    store = open_store(root, data.split("val"), SPEC, tmp_path)
    assert not store.bad
    assert store.pixels.shape == (len(data.split("val")), 32, 32, 3)


def test_a_class_without_a_superclass_is_left_out_by_name(root: Path, tmp_path: Path) -> None:
    few = tmp_path / "few.toml"
    few.write_text('[superclasses]\nbirds = ["n01532829"]\npans = ["n03400231"]\n')
    data = read_photos(root, superclass_map=few)
    assert len(data.photos) == 2 * EACH
    assert data.unusable()["images/n0452216800000001.jpg"] == "no superclass has 'n04522168'"
    assert data.summary()["unlabelled"] == len(data.unlabelled) == 4 * EACH


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("filename,label\n/etc/passwd,n01532829\n", "test.csv, line 2: expected a file below"),
        ("filename,label\n../a.jpg,n01532829\n", "expected a file below images, got '../a.jpg'"),
        ("filename,label\n,n01532829\n", "expected a file below images, got ''"),
        ("filename,label\nn01532829000", "line 2: expected 2 values, got none for label"),
        ("name,label\na.jpg,n01532829\n", "expected columns filename, got name, label"),
        ("", "expected columns filename, label, got "),
        ("filename,label\n\xff\xfe\n", "expected text in UTF-8"),
    ],
)
def test_a_table_of_another_form_is_refused(tmp_path: Path, table: str, told: str) -> None:
    root = mini_imagenet(tmp_path / "mini")
    (root / "test.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(DataError, match=told):
        read_photos(root)


def test_its_column_of_the_table_is_filled(root: Path, tmp_path: Path) -> None:
    lines = fill_column("mini-ImageNet", root, tmp_path / "results")
    assert [line["method"] for line in lines] == ["cross-entropy", "SCLRE"]
    assert all(line["accuracy (bank)"] is not None for line in lines)
