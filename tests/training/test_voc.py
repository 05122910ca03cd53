"""PASCAL VOC 2012 through its official layout, of generated images."""

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
from training.data.voc import INNER, largest_object
from training.errors import DataError

SPEC = Preprocessing(height=32, width=32)
EACH = {"train": 40, "val": 6}  # photos of each class
SUPERCLASS_OF = {"person": "biotic", "pottedplant": "biotic", "car": "abiotic", "sofa": "abiotic"}


def box(name: str, width: float, height: float, difficult: int | None = 0) -> str:
    mark = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return (
        f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>{mark}<bndbox>"
        f"<xmax>{5 + width}</xmax><xmin>5</xmin><ymax>{7 + height}</ymax><ymin>7</ymin></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>999</xmax>"
        "<ymax>999</ymax></bndbox></part></object>"
    )


def annotation(*objects: str) -> str:
    return f"<annotation><folder>VOC2012</folder>{''.join(objects)}</annotation>\n"


def voc(root: Path) -> Path:
    folder = root / INNER
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    names: dict[str, list[str]] = {split: [] for split in EACH}
    for k, label in enumerate(SUPERCLASS_OF):
        for split, each in EACH.items():
            for index in range(each):
                name = f"200{k}_{len(split)}{index:05}"
                names[split].append(name)
                (folder / "JPEGImages" / f"{name}.jpg").write_bytes(noise(index))
                text = annotation(box("bird", 9, 9), box(label, 30, 20), box("cat", 50, 50, 1))
                (folder / "Annotations" / f"{name}.xml").write_text(text)
    for split, listed in names.items():
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(listed) + "\n")
    everything = "\n".join(names["train"] + names["val"])
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text(everything)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return voc(tmp_path_factory.mktemp("voc"))


@pytest.fixture(scope="module")
def data(root: Path) -> PhotoSet:
    return read_photos(root)


def test_the_map_has_the_twenty_classes() -> None:
    counts = Counter(read_map(MAPS / "voc-2012.toml").values())
    assert counts == {"biotic": 8, "abiotic": 12}


def test_the_official_val_is_test_and_val_is_drawn_from_train(data: PhotoSet) -> None:
    assert {photo.subclass: photo.superclass for photo in data.photos} == SUPERCLASS_OF
    assert len(data.split("test")) == len(SUPERCLASS_OF) * EACH["val"]
    trained = len(SUPERCLASS_OF) * EACH["train"]
    assert len(data.split("train")) + len(data.split("val")) == trained
    assert 0.04 < len(data.split("val")) / trained < 0.2


def test_the_photos_decode(data: PhotoSet, root: Path, tmp_path: Path) -> None:
    store = open_store(root, data.split("test"), SPEC, tmp_path)
    assert not store.bad
    assert store.pixels.shape == (len(data.split("test")), 32, 32, 3)


def test_the_inner_folder_may_be_named_and_the_splits_are_the_same(
    data: PhotoSet, root: Path
) -> None:
    inner = read_photos(root / INNER)
    assert inner.photos[0].path.startswith("JPEGImages/")
    for one, other in zip(data.photos, inner.photos, strict=True):
        assert one.path.endswith(other.path)
        assert one.split == other.split


@pytest.mark.parametrize(
    ("objects", "label"),
    [
        ([box("dog", 10, 10), box("car", 20, 6)], "car"),
        ([box("dog", 10, 10), box("car", 99, 99, 1)], "dog"),
        ([box("dog", 10, 10, 1), box("car", 99, 99, 1)], "car"),
        ([box("dog", 10, 10, None), box("car", 45.7, 9.1, None)], "car"),
        ([], None),
    ],
)
def test_the_largest_object_that_is_not_difficult_counts(
    tmp_path: Path, objects: list[str], label: str | None
) -> None:
    file = tmp_path / "one.xml"
    file.write_text(annotation(*objects))
    assert largest_object(file) == label


def test_a_photo_without_an_object_is_left_out_and_told(tmp_path: Path) -> None:
    folder = voc(tmp_path) / INNER
    (folder / "Annotations" / "2000_500000.xml").write_text(annotation())
    data = read_photos(folder)
    assert data.unusable() == {"JPEGImages/2000_500000.jpg": "no object is annotated"}


LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (annotation(box("dog", 1, 1))[:-30], "expected <object>s, each with <name> and <bndbox>"),
        (LAUGHS, "without a document type or entities"),
        (annotation("<object><name>dog</name></object>"), "lacks its name or its box"),
        (annotation(box("dog", 1, 1)).replace("<xmin>5</xmin>", ""), "expected <object>s"),
        (annotation(box("", 1, 1)), "lacks its name or its box"),
        ("\xff\xfe<annotation/>", "expected text in UTF-8"),
    ],
)
def test_an_annotation_of_another_form_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "one.xml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=told):
        largest_object(file)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", "a\\b"])
def test_a_list_may_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder = voc(tmp_path) / INNER
    (folder / "ImageSets" / "Main" / "val.txt").write_text(f"{name}\n")
    with pytest.raises(DataError, match=r"val\.txt, line 1: expected a photo's name"):
        read_photos(folder)


def test_an_annotation_or_a_list_that_is_absent_is_told(tmp_path: Path) -> None:
    folder = voc(tmp_path) / INNER
    (folder / "Annotations" / "2000_500000.xml").unlink()
    with pytest.raises(DataError, match=r"2000_500000\.xml: expected a text file"):
        read_photos(folder)
    (folder / "ImageSets" / "Main" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"train\.txt: expected a text file"):
        read_photos(folder)


def test_its_column_of_the_table_is_filled(root: Path, tmp_path: Path) -> None:
    lines = fill_column("VOC 2012", root, tmp_path / "results")
    assert [line["method"] for line in lines] == ["cross-entropy", "SCLRE"]
    assert all(line["accuracy (bank)"] is not None for line in lines)
