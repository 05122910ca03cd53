"""Adience through its official layout, of generated images."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from service.preprocess import Preprocessing
from tests.photo_factory import noise
from tests.training_runs import fill_column
from training.config import Config
from training.data.adience import FACES, SPLIT_OF
from training.data.photos import MAPS, PhotoSet, read_photos
from training.data.store import open_store
from training.data.superclass_map import read_map
from training.errors import DataError
from training.fit import fit

SPEC = Preprocessing(height=32, width=32)
HEADER = (
    "user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\t"
    "fiducial_yaw_angle\tfiducial_score"
)
GROUP_OF = {  # as the fold files write them
    **{"(0, 2)": "0-2", "(4, 6)": "4-6", "(8, 12)": "8-13", "13": "8-13", "(15, 20)": "15-20"},
    **{"(25, 32)": "25-32", "(27, 32)": "25-32", "(38, 43)": "38-43", "(38, 42)": "38-43"},
    **{"(48, 53)": "48-53", "(60, 100)": "60+"},
}
DIRTY = ("None", "35", "(38, 48)", "(8, 23)", "")


def row(user: str, image: str, face: int, age: str) -> str:
    return f"{user}\t{image}\t{face}\t{age}\tf\t0\t0\t301\t301\t-115\t30\t17"


def adience(root: Path, faces: str = "aligned") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for fold in range(5):
        lines = [HEADER]
        for k, age in enumerate((*GROUP_OF, *DIRTY)):
            user, image = f"{fold}{k:02}@N03", f"{k}_{fold}_o.jpg"
            file = root / faces / user / f"{FACES[faces]}.{k}.{image}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(noise(k))
            lines.append(row(user, image, k, age))
        (root / f"fold_{fold}_data.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adience(tmp_path_factory.mktemp("adience"))


@pytest.fixture(scope="module")
def data(root: Path) -> PhotoSet:
    return read_photos(root)


def test_an_age_that_the_map_has_lies_within_its_group() -> None:
    for age, group in read_map(MAPS / "adience.toml").items():
        low, high = (int(end) for end in group.replace("+", "-100").split("-"))
        ends = [int(end) for end in age.strip("()").split(",")]
        assert low <= ends[0] <= ends[-1] <= high


def test_every_age_has_its_group_and_every_fold_its_split(data: PhotoSet) -> None:
    assert {photo.subclass: photo.superclass for photo in data.photos} == GROUP_OF
    assert len(data.superclasses) == 8
    by_fold = {(photo.path.split("/")[1][0], photo.split) for photo in data.photos}
    assert by_fold == {(str(fold), split) for fold, split in SPLIT_OF.items()}
    people = {
        split: {p.path.split("/")[1] for p in data.split(split)} for split in SPLIT_OF.values()
    }
    assert not people["train"] & people["test"]


def test_rows_of_no_group_are_left_out_counted_and_told(data: PhotoSet) -> None:
    reasons = Counter(data.unusable().values())
    assert reasons == {f"no superclass has {age!r}": 5 for age in DIRTY}
    assert data.summary()["unlabelled"] == 5 * len(DIRTY)


def test_a_run_lists_what_was_left_out(
    root: Path, tmp_path: Path, tiny_config: Callable[..., Config]
) -> None:
    config = tiny_config(method="cross_entropy", train={"epochs": 0.1})
    fit(config, read_photos(root), tmp_path, device="cpu")
    bad = json.loads((tmp_path / "bad_photos.json").read_text())
    assert bad == read_photos(root).unusable()
    assert bad["aligned/011@N03/landmark_aligned_face.11.11_0_o.jpg"] == "no superclass has 'None'"


@pytest.mark.parametrize("faces", sorted(FACES))
def test_the_faces_decode_aligned_or_not(tmp_path: Path, faces: str) -> None:
    root = adience(tmp_path / "adience", faces)
    data = read_photos(root)
    store = open_store(root, data.split("test"), SPEC, tmp_path)
    assert not store.bad
    assert len(store.photos) == len(GROUP_OF)
    assert all(photo.path.startswith(f"{faces}/") for photo in store.photos)


def test_a_face_that_is_absent_is_told(tmp_path: Path) -> None:
    root = adience(tmp_path / "adience")
    (root / "aligned" / "000@N03" / "landmark_aligned_face.0.0_0_o.jpg").unlink()
    data = read_photos(root)
    assert data.missing == ("aligned/000@N03/landmark_aligned_face.0.0_0_o.jpg",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{HEADER}\n{row('..', 'a.jpg', 1, '(0, 2)')}\n", "line 2: expected names of a folder"),
        (f"{HEADER}\n{row('', 'a.jpg', 1, '(0, 2)')}\n", "expected names of a folder and a photo"),
        (f"{HEADER}\n{row('u', '/../../../a.jpg', 1, '(0, 2)')}\n", "expected names of a folder"),
        (f"{HEADER}\n{row('/etc', 'a.jpg', 1, '(0, 2)')}\n", "expected names of a folder"),
        (f"{HEADER}\nuser\timage.jpg\n", "line 2: expected 12 values, got none for face_id"),
        (HEADER.replace("\tage", "\tyears") + "\n", "expected columns age, got user_id"),
        ("\xff\xfe", "expected text in UTF-8"),
        (f"{HEADER}\n{row('u' * 200_000, 'a.jpg', 1, '(0, 2)')}\n", "field larger than"),
    ],
)
def test_a_fold_file_of_another_form_is_refused(tmp_path: Path, text: str, told: str) -> None:
    root = adience(tmp_path / "adience")
    (root / "fold_4_data.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=told):
        read_photos(root)


def test_its_column_of_the_table_is_filled(root: Path, tmp_path: Path) -> None:
    lines = fill_column("Adience", root, tmp_path / "results")
    assert [line["method"] for line in lines] == ["cross-entropy", "SCLRE"]
    assert all(line["accuracy (bank)"] is not None for line in lines)
