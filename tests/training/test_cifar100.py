"""CIFAR-100 through its official layout, of generated images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from service.preprocess import Preprocessing
from tests.tiny_cifar import fine_names, table, write_cifar
from training.cli import register
from training.data.cifar100 import FOLDER, ROW
from training.data.photos import MAPS, PhotoSet, read_photos
from training.data.store import open_store
from training.data.superclass_map import read_map
from training.errors import DataError

EACH = {"train": 12, "test": 2}  # images of each subclass
MAP = Path("cifar100-4")
SPEC = Preprocessing(height=32, width=32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside the folder that the archive unpacks to."""
    return write_cifar(tmp_path_factory.mktemp("cifar"), EACH)


@pytest.fixture(scope="module")
def data(root: Path) -> PhotoSet:
    return read_photos(root, superclass_map=MAP)


def test_cifar100_4_is_the_papers_table_2() -> None:
    assert len(fine_names()) == len(set(fine_names())) == 100


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("cifar100-3", {"aquatic": 18, "land-motional": 42, "stationary": 40}),
        ("cifar100-4", {"artifacts": 30, "mammals": 30, "natures": 20, "non-mammals": 20}),
        (
            "cifar100-7",
            {
                **{"aquatics": 10, "household-items": 15, "non-small-animals": 30, "vehicles": 10},
                **{"outdoor-scenes": 10, "plants": 15, "small-animals": 10},
            },
        ),
    ],
)
def test_a_map_has_every_label_once_in_the_shares_that_it_tells(
    name: str, shares: dict[str, int]
) -> None:
    text = (MAPS / f"{name}.toml").read_text(encoding="utf-8")
    table = text[text.index("[superclasses]") :]
    assert sorted(table.split('"')[1::2]) == fine_names()  # once each, which a dict would hide
    assert Counter(read_map(MAPS / f"{name}.toml").values()) == shares


def test_cifar100_7_is_made_of_whole_groups_of_cifar_100() -> None:
    """The groups of some kinds whose names would fit elsewhere too."""
    owner = read_map(MAPS / "cifar100-7.toml")
    for superclass, kinds in {
        "aquatics": "beaver dolphin otter seal whale aquarium_fish flatfish ray shark trout",
        "non-small-animals": "crab lobster snail spider worm baby crocodile lizard turtle fox",
        "small-animals": "bee beetle butterfly caterpillar cockroach hamster mouse rabbit shrew",
        "plants": "apple mushroom orange pear sweet_pepper maple_tree orchid",
        "vehicles": "lawn_mower rocket streetcar tank tractor bicycle",
    }.items():
        assert {owner[kind] for kind in kinds.split()} == {superclass}


def test_every_image_has_its_superclass_and_its_split(data: PhotoSet) -> None:
    assert data.superclasses == ("artifacts", "mammals", "natures", "non-mammals")
    shares = Counter(photo.superclass for photo in data.split("test"))
    each = EACH["test"]
    assert shares == {
        "artifacts": 30 * each, "mammals": 30 * each, "natures": 20 * each, "non-mammals": 20 * each
    }  # fmt: skip
    assert len(data.split("train")) + len(data.split("val")) == 100 * EACH["train"]
    assert 0.05 < len(data.split("val")) / (100 * EACH["train"]) < 0.15
    assert {photo.path.partition("#")[0] for photo in data.split("val")} == {f"{FOLDER}/train.bin"}


def test_pixels_are_those_of_the_file(data: PhotoSet, root: Path, tmp_path: Path) -> None:
    photos = data.split("test")
    store = open_store(root, photos, SPEC, tmp_path)
    assert not store.bad
    rows = table(EACH["test"], 1)
    expected = rows[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(store.pixels, expected)
    assert [photo.subclass for photo in photos] == [fine_names()[label] for label in rows[:, 1]]


def test_the_folder_itself_may_be_named_and_a_map_may_leave_some_out(
    root: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.toml"
    few.write_text('[superclasses]\nanimals = ["bear", "fox"]\nthings = ["bus", "cup"]\n')
    data = read_photos(root / FOLDER, superclass_map=few)
    assert {photo.subclass for photo in data.photos} == {"bear", "fox", "bus", "cup"}
    assert len(data.split("test")) == 4 * EACH["test"]


def test_without_a_map_it_says_which_there_are(root: Path) -> None:
    with pytest.raises(DataError, match="--superclasses FILE, or one of cifar100-4"):
        read_photos(root)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda rows: rows.tobytes()[:-1], f"expected rows of {ROW:,} bytes"),
        (lambda rows: b"", "got 0 bytes"),
        (lambda rows: b"\0\x64" + rows.tobytes()[2:], "expected labels below 100, got 100"),
    ],
)
def test_files_of_another_layout_are_refused(tmp_path: Path, damage: object, told: str) -> None:
    for split in EACH:
        (tmp_path / f"{split}.bin").write_bytes(damage(table(1, 0)))  # type: ignore[operator]
    (tmp_path / "fine_label_names.txt").write_text("\n".join(fine_names()))
    with pytest.raises(DataError, match=told):
        read_photos(tmp_path, superclass_map=MAP)


def test_a_model_is_trained_on_it(root: Path, tmp_path: Path) -> None:
    record = tmp_path / "cifar.toml"
    record.write_text(
        'name = "cifar"\nmethod = "cross_entropy"\n[data]\npx = 32\ncache_px = 32\n'
        '[backbone]\nname = "resnet18"\nstem = "cifar"\npretrained = false\n'
        "[train]\nepochs = 0.2\nbatch = 16\n"
    )
    out = tmp_path / "run"
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(
        app,
        [
            *("train", str(record), "--data", str(root), "--out", str(out)),
            *("--superclasses", str(MAP), "--device", "cpu"),
        ],
    )
    assert result.exit_code == 0, result.output
    assert (out / "model.pt").is_file()
