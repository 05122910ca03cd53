"""Reviewed photos: which may be learned from, and how they join the train split."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.preprocess import Preprocessing
from service.review.opening import open_store as open_review
from service.review.records import Rules, StoreError, Verdict
from tests.review_stores import new_photo
from tests.tiny_matching import photo_of, write_photos
from tests.training.test_whole_loop import superbin
from tests.training_runs import toml
from training import checkpoint
from training.data.photos import read_photos
from training.data.review import (
    ReviewFolder,
    join_train,
    joined_photos,
    read_review,
    review_folder,
)
from training.data.store import open_store
from training.errors import DataError
from training.scratch import short_lived

NAMES = ("hazardous", "organic", "recyclable", "residual")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "data")


@pytest.fixture
def review(tmp_path: Path) -> Path:
    return write_photos(
        tmp_path / "review", ["battery", "can"], {"train": 4, "val": 1, "test": 2}, first=100
    )


def test_only_those_of_train_are_learned(review: Path) -> None:
    reviewed = read_review(ReviewFolder(review), NAMES)
    assert [len(reviewed.learned), len(reviewed.held_out)] == [8, 6]
    assert {photo.source for photo in reviewed.learned} == {"review"}
    assert reviewed.learned[0].path == "review/photos/battery-100.png"
    assert reviewed.learned[0].file == review / "photos/battery-100.png"


def test_a_folder_of_photos_by_kind_is_a_review_as_well(review: Path) -> None:
    for kind in ("battery", "can"):
        (review / kind).mkdir()
        for photo in (review / "photos").glob(f"{kind}-*"):
            photo.rename(review / kind / photo.name)
    (review / "photos").rmdir()
    (review / "can" / "scan.tif").write_bytes(b"II*")
    (review / "labels.csv").unlink()
    map_of = '[superclasses]\nhazardous = ["battery"]\nrecyclable = ["can"]\n'
    (review / "superclasses.toml").write_text(map_of)
    with review_folder(str(review), None) as folder:
        reviewed = read_review(folder, NAMES)
    assert [len(reviewed.learned), len(reviewed.held_out)] == [14, 0]
    assert {(p.subclass, p.superclass) for p in reviewed.learned} == {
        ("battery", "hazardous"),
        ("can", "recyclable"),
    }
    assert list(reviewed.left_out) == ["review/can/scan.tif"]


def test_they_join_the_train_split_and_its_record(data: Path, review: Path) -> None:
    before = read_photos(data)
    joined = join_train(before, read_review(ReviewFolder(review), NAMES))
    assert len(joined.split("train")) == len(before.split("train")) + 8
    for split in ("val", "test"):
        assert joined.split(split) == before.split(split)
    summary = json.loads(json.dumps(joined.summary()))
    assert summary["review"]["photos"] == 8
    assert summary["review"]["superclasses"] == {"hazardous": 4, "recyclable": 4}
    assert summary["review"]["held_out"] == 6
    assert len(summary["review"]["sha256"]) == 64
    assert str(review) not in json.dumps(summary)
    assert "review" not in before.summary()
    spec = Preprocessing.model_validate({"height": 16, "width": 16, "fit": "squash"})
    store = open_store(data, joined.split("train"), spec)
    assert len(store.photos) == 56
    assert not store.bad


def test_the_record_tells_one_review_from_another(data: Path, review: Path) -> None:
    def digest() -> str:
        return read_review(ReviewFolder(review), NAMES).digest()

    first = digest()
    assert digest() == first
    (review / "photos/can-100.png").write_bytes(photo_of("can", 77))
    second = digest()
    assert second != first
    (review / "photos/can-104.png").write_bytes(photo_of("can", 78))  # held out
    assert digest() == second


def test_photos_of_val_and_test_never_join(data: Path, review: Path) -> None:
    before = read_photos(data)
    measured = [*before.split("val"), *before.split("test")]
    for place, photo in enumerate(measured[:3]):
        shutil.copy(data / photo.path, review / f"photos/battery-{100 + place}.png")
    joined = join_train(before, read_review(ReviewFolder(review), NAMES))
    assert joined.review is not None
    assert joined.review["photos"] == 5
    assert joined.review["left_out"] == {
        f"review/photos/battery-{n}.png": "a photo of val or test" for n in (100, 101, 102)
    }


def test_of_a_photo_that_is_in_both_the_review_says_what_it_is(data: Path, review: Path) -> None:
    shutil.copy(data / "photos/mug-001.png", review / "photos/battery-100.png")
    joined = join_train(read_photos(data), read_review(ReviewFolder(review), NAMES))
    paths = {photo.path for photo in joined.photos}
    assert "photos/mug-001.png" not in paths
    assert joined.review is not None
    assert joined.review["in_place_of"] == 1


def test_a_review_stands_in_place_of_every_copy_of_its_photo(data: Path, review: Path) -> None:
    shutil.copy(data / "photos/mug-001.png", data / "photos/copy.png")
    with (data / "labels.csv").open("a", encoding="utf-8") as labels:
        labels.write("photos/copy.png,drawn,mug,residual,train\n")
    shutil.copy(data / "photos/mug-001.png", review / "photos/battery-100.png")
    joined = join_train(read_photos(data), read_review(ReviewFolder(review), NAMES))
    paths = {photo.path for photo in joined.photos}
    assert not paths & {"photos/mug-001.png", "photos/copy.png"}
    assert joined.review is not None
    assert joined.review["in_place_of"] == 2


def test_of_equal_photos_with_different_superclasses_the_last_line_is_believed(
    data: Path, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("battery-101", "battery-105", "can-101"):  # 105 is held out
        shutil.copy(review / "photos/can-100.png", review / f"photos/{name}.png")
    reviewed = read_review(ReviewFolder(review), NAMES)
    assert set(reviewed.left_out) == {f"review/photos/battery-{n}.png" for n in (101, 105)}
    assert len(reviewed.held_out) == 5
    assert reviewed.held_out_missing == 0
    joined = join_train(read_photos(data), reviewed)
    assert joined.review is not None
    assert joined.review["superclasses"] == {"hazardous": 3, "recyclable": 4}
    told = capsys.readouterr().err
    why = "called hazardous, and review/photos/can-101.png, the same photo in a later line, recycl"
    assert f"warning: review/photos/battery-101.png is left out: {why}" in told


def test_what_is_no_review_is_refused(data: Path, review: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected superclasses of a, b, got hazardous, rec"):
        read_review(ReviewFolder(review), ("a", "b"))
    for reference, told in (
        (
            str(tmp_path / "none"),
            r"a folder with a labels\.csv \(path,superclass.*superclasses\.toml, or the URL of",
        ),
        (f"sqlite:///{tmp_path}/review.db", "expected --review-photos, or SUPERBIN_REVIEW_PHOTOS"),
    ):
        with pytest.raises(DataError, match=told), review_folder(reference, None):
            pass
    shutil.rmtree(review / "photos")
    with pytest.raises(DataError, match="has no reviewed photo that may be learned from"):
        join_train(read_photos(data), read_review(ReviewFolder(review), NAMES))


def test_a_store_is_read_like_a_folder_and_nothing_of_it_stays(tmp_path: Path) -> None:
    url, photos = f"sqlite:///{tmp_path}/review.db", str(tmp_path / "kept")
    with open_review(url, photos, Rules(held_out_share=0.5, double_share=0.0)) as store:
        for seed in range(12):
            added = store.add(new_photo(seed))
            store.review(added.id, "anna", Verdict("hazardous", "battery"))
    with review_folder(url, photos) as folder:
        reviewed = read_review(folder, NAMES)
        assert len(reviewed.learned) + len(reviewed.held_out) == 12
        assert reviewed.learned
        assert reviewed.held_out
        assert {photo.subclass for photo in reviewed.learned} == {"battery"}
        assert reviewed.learned[0].path.startswith("review/photos/")
    assert str(folder) == url
    assert not folder.path.exists()


def test_what_a_store_leaves_out_is_told(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, photos = f"sqlite:///{tmp_path}/review.db", tmp_path / "kept"
    with open_review(url, str(photos), Rules(double_share=0.0)) as store:
        for seed in range(12):
            added = store.add(new_photo(seed))
            store.review(added.id, "anna", Verdict("hazardous", "battery"))
    with open_review(url, str(photos), Rules(double_share=1.0)) as store:
        store.review(store.add(new_photo(50)).id, "anna", Verdict("hazardous", "battery"))
    lost, *rest = sorted(photos.rglob("*.jpg"))
    lost.unlink()
    with review_folder(url, str(photos)) as folder:
        reviewed = read_review(folder, NAMES)
        missing = [path for path, why in reviewed.left_out.items() if why == "missing"]
        assert missing == [f"review/photos/{lost.name}"]
        with pytest.raises(DataError, match=f"{url}: expected superclasses of a, b"):
            read_review(folder, ("a", "b"))
    told = capsys.readouterr()
    assert f"warning: 1 reviewed photos of {url} are left out" in told.err
    assert f"their files are missing in {photos}" in told.err
    assert f"left out: 1 photos of {url} that one person reviewed and that wait" in told.out
    for one in rest:
        one.unlink()
    with (
        pytest.raises(StoreError, match=f"{photos} has the file of none of them"),
        review_folder(url, str(photos)),
    ):
        pass
    with (
        pytest.raises(StoreError, match=f"there is no file {tmp_path}/typo.db"),
        review_folder(f"sqlite:///{tmp_path}/typo.db", str(photos)),
    ):
        pass


KILLED = """
import os, signal
from training.scratch import short_lived
with short_lived("superbin-review-") as folder:
    (folder / "photo.jpg").write_bytes(b"of somebody")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(tmp_path: Path) -> Path:
    """The folder that a killed process left."""
    words = [sys.executable, "-c", KILLED]
    variables = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = Path(done.stdout.strip())
    assert (left / "photo.jpg").exists()
    assert left.is_relative_to(tmp_path)
    return left


def test_copies_that_a_killed_process_left_go_and_those_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = killed(tmp_path)
    with short_lived("superbin-review-") as mine:
        assert not left.exists()
        assert mine.stat().st_mode & 0o777 == 0o700
        assert mine.parent.stat().st_mode & 0o777 == 0o700
        with short_lived("superbin-review-") as other:
            assert mine.exists()
            assert other != mine
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_only_called_alike_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    exported = write_photos(tmp_path / "superbin-review-2026-11", ["can"], {"train": 1})
    linked = tmp_path / "superbin-review-linked"
    linked.symlink_to(killed(tmp_path).parent.rename(tmp_path / "moved"))
    with short_lived("superbin-review-"):
        pass
    assert (exported / "photos/can-000.png").exists()
    assert (linked / "content/photo.jpg").exists()


def test_without_locks_a_folder_is_made_once_and_others_leftovers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = killed(tmp_path)
    asked: list[int] = []

    def without_locks(handle: int, _operation: int) -> None:
        asked.append(handle)
        assert len(asked) < 10, "asked for a lock again and again"
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", without_locks)
        with short_lived("superbin-review-") as mine:
            with short_lived("superbin-review-"):
                pass
            assert mine.exists()
        assert list(tmp_path.iterdir()) == [left.parent]
    with short_lived("superbin-review-"):
        assert not left.exists()


def test_kinds_that_may_be_slips_are_told(
    data: Path, review: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = review / "labels.csv"
    labels.write_text(
        labels.read_text()
        .replace(",battery,", ",batery,")
        .replace(",can,recyclable", ",can,organic")
    )
    with joined_photos(read_photos(data), str(review), None):
        pass
    told = capsys.readouterr().err.splitlines()
    whose = "'batery', which the train split does not know; close to it is battery"
    assert told[0] == f"warning: 4 reviewed photos of a new kind, {whose}"
    assert told[1].startswith(
        "warning: 4 reviewed photos of 'can' as organic, which the train split"
    )
    assert "has as recyclable (" in told[1]


def test_train_takes_them_and_its_record_says_so(
    data: Path, review: Path, tiny_record: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    record = tmp_path / "tiny.toml"
    matching = {"method": "matching", "matching": {"width": 16}, "bank": {"selection": "all"}}
    record.write_text(toml(tiny_record(**matching, train={"epochs": 0.1})))
    words: list[object] = ["train", record, "--data", data, "--out", tmp_path / "run"]
    done: subprocess.CompletedProcess[str] = superbin(tmp_path, *words, "--from-review", review)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run" / "record.json").read_text())
    assert found["dataset"]["review"]["subclasses"] == {"battery": 4, "can": 4}
    assert found["dataset"]["sources"]["review"] == 8
    items = checkpoint.load(tmp_path / "run" / "model.pt")["bank"]
    mine = [item for item in items if item["source"] == "review"]
    assert len(mine) == 8
    assert all(item["path"].startswith("review/photos/") for item in mine)
    rest = [*words, "--from-review", f"postgresql://anna:secret@host/{tmp_path.name}"]
    refused = superbin(tmp_path, *rest[:4], "--out", tmp_path / "other", *rest[6:])
    assert refused.returncode == 2
    assert "expected --review-photos" in refused.stderr
