"""Decoded photos on disk: the service's pixels, decoded once, with the bad ones named."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.preprocess import FORMATS, Preprocessing, decode
from training.data.photos import Photo, read_photos
from training.data.store import cache_folder, open_store

SPEC = Preprocessing(height=12, width=20)


@pytest.fixture
def root(make_dataset: Callable[..., Path]) -> Path:
    return make_dataset()


def photos_of(root: Path) -> tuple[Photo, ...]:
    return read_photos(root).split("train")


def test_pixels_are_what_the_service_decodes_in_the_photos_order(root: Path) -> None:
    for spec in (SPEC, Preprocessing(height=8, width=8, fit="crop", resample="bicubic")):
        store = open_store(root, photos_of(root), spec)
        assert store.photos == photos_of(root)
        assert store.pixels.dtype == np.uint8
        assert store.pixels.shape == (24, spec.height, spec.width, 3)
        for photo, pixels in zip(store.photos, store.pixels, strict=True):
            expected = decode((root / photo.path).read_bytes(), spec)
            np.testing.assert_array_equal(pixels, expected)


def test_a_second_call_decodes_nothing(root: Path) -> None:
    """Garbage of the same size and age in place of the photos is not looked at."""
    before = np.array(open_store(root, photos_of(root), SPEC).pixels)
    for photo in photos_of(root):
        file = root / photo.path
        status = file.stat()
        file.write_bytes(bytes(status.st_size))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = open_store(root, photos_of(root), SPEC)
    np.testing.assert_array_equal(again.pixels, before)
    assert again.bad == {}


def test_a_photo_that_changed_is_decoded_again(root: Path) -> None:
    photos = photos_of(root)
    before = np.array(open_store(root, photos, SPEC).pixels)
    Image.new("RGB", (30, 30), (1, 2, 3)).save(root / photos[3].path)
    after = open_store(root, photos, SPEC).pixels
    assert (after[3] == (1, 2, 3)).all()
    np.testing.assert_array_equal(np.delete(after, 3, axis=0), np.delete(before, 3, axis=0))


def test_a_photo_of_the_same_size_in_bytes_is_decoded_again_by_its_age(root: Path) -> None:
    photos = photos_of(root)[:1]
    for age, colour in ((1_000, (9, 9, 9)), (2_000, (5, 6, 7))):
        Image.new("RGB", (30, 30), colour).save(root / photos[0].path, "BMP")
        os.utime(root / photos[0].path, (age, age))
        assert (open_store(root, photos, SPEC).pixels == colour).all()


def test_another_size_or_another_choice_of_photos_has_its_own_pixels(root: Path) -> None:
    photos = photos_of(root)
    whole = open_store(root, photos, SPEC).pixels
    assert open_store(root, photos, Preprocessing(height=9, width=9)).pixels.shape[1:3] == (9, 9)
    np.testing.assert_array_equal(open_store(root, photos[::-1], SPEC).pixels, whole[::-1])


def test_photos_that_do_not_decode_are_named_and_dropped(root: Path) -> None:
    photos = photos_of(root)
    (root / photos[0].path).write_bytes(b"not a photo")
    sound = (root / photos[5].path).read_bytes()
    (root / photos[5].path).write_bytes(sound[: len(sound) // 2])
    (root / photos[7].path).write_bytes(b"")
    for _ in range(2):  # decoded, and read from the cache
        store = open_store(root, photos, SPEC)
        assert set(store.bad) == {photos[i].path for i in (0, 5, 7)}
        assert "got 11 bytes" in store.bad[photos[0].path]
        assert store.photos == tuple(p for i, p in enumerate(photos) if i not in (0, 5, 7))
        for photo, pixels in zip(store.photos, store.pixels, strict=True):
            expected = decode((root / photo.path).read_bytes(), SPEC)
            np.testing.assert_array_equal(pixels, expected)


def test_no_photos_or_none_that_decode_give_no_pixels(root: Path) -> None:
    assert open_store(root, (), SPEC).pixels.shape == (0, 12, 20, 3)
    photos = photos_of(root)[:2]
    for photo in photos:
        (root / photo.path).write_bytes(b"not a photo")
    store = open_store(root, photos, SPEC)
    assert store.photos == ()
    assert store.pixels.shape == (0, 12, 20, 3)
    assert len(store.bad) == 2


def test_pixels_cannot_be_written_to_and_nothing_unfinished_is_left(root: Path) -> None:
    photos = photos_of(root)
    (root / photos[0].path).write_bytes(b"not a photo")
    store = open_store(root, photos, SPEC)
    with pytest.raises(ValueError, match="read-only"):
        store.pixels[0] = 0
    assert {file.suffix for file in (cache_folder() / "pixels").iterdir()} == {".npy", ".json"}


def test_pixels_without_their_report_or_a_report_without_its_pixels_are_made_anew(
    root: Path,
) -> None:
    photos = photos_of(root)
    before = np.array(open_store(root, photos, SPEC).pixels)
    for suffix in (".npy", ".json"):
        (half,) = (cache_folder() / "pixels").glob(f"*{suffix}")
        half.unlink()
        np.testing.assert_array_equal(open_store(root, photos, SPEC).pixels, before)


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache_folder() == tmp_path / "user" / "superbin"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "superbin"


def test_a_format_that_is_read_from_now_on_is_decoded(root: Path) -> None:
    """As HEIC is once its extra is installed."""
    photos = photos_of(root)[:2]
    Image.new("RGB", (30, 30), (1, 2, 3)).save(root / photos[0].path, "AVIF")
    FORMATS.remove("AVIF")
    try:
        assert photos[0].path in open_store(root, photos, SPEC).bad
    finally:
        FORMATS.append("AVIF")
    assert open_store(root, photos, SPEC).bad == {}


def test_a_photo_that_could_not_be_read_is_read_when_it_can_be(root: Path) -> None:
    photos = photos_of(root)[:2]
    file, age = root / photos[0].path, (1_000, 1_000)
    photo = file.read_bytes()
    file.unlink()
    file.mkdir()
    os.utime(file, age)
    size = file.stat().st_size
    assert list(open_store(root, photos, SPEC).bad) == [photos[0].path]
    assert list(open_store(root, photos, SPEC).bad) == [photos[0].path]
    file.rmdir()
    file.write_bytes(photo.ljust(size, b"\0"))
    os.utime(file, age)
    assert open_store(root, photos, SPEC).bad == {}


def test_what_a_killed_process_left_is_removed_and_nothing_else(root: Path, tmp_path: Path) -> None:
    folder, host = tmp_path / "pixels", socket.gethostname()
    folder.mkdir()
    names = [f"a.{host}.{pid}.{end}" for pid in (2**30, os.getpid()) for end in ("part", "trim")]
    for name in (*names, f"a.not-{host}.1.part"):
        (folder / name).touch()
    open_store(root, photos_of(root), SPEC, tmp_path)
    left = {file.name for file in folder.iterdir() if file.suffix not in (".npy", ".json")}
    assert left == {*names[2:], f"a.not-{host}.1.part"}


def test_a_full_disk_is_told_and_stays_as_it_was(root: Path, small_disk: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from service.preprocess import Preprocessing\n"
        "from training.data.photos import read_photos; from training.data.store import open_store\n"
        "root, cache = map(Path, sys.argv[1:])\n"
        "photos, spec = read_photos(root).split('train'), Preprocessing(height=64, width=64)\n"
        "open_store(root, photos, spec, cache)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(root), str(small_disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert list((small_disk / "pixels").iterdir()) == []


@pytest.mark.parametrize("kind", ["npy", "json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_what_a_power_cut_left_half_written_is_decoded_again(
    kind: str, share: float, root: Path
) -> None:
    photos = photos_of(root)
    before = np.array(open_store(root, photos, SPEC).pixels)
    (file,) = (cache_folder() / "pixels").glob(f"*.{kind}")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    np.testing.assert_array_equal(open_store(root, photos, SPEC).pixels, before)


def test_pixels_and_a_report_of_two_calls_are_not_taken_for_one(root: Path) -> None:
    """As where one was killed between the two: rows would be those of other photos."""
    photos = photos_of(root)
    before = np.array(open_store(root, photos, SPEC).pixels)
    (report,) = (cache_folder() / "pixels").glob("*.json")
    report.write_text(json.dumps({"bad": {photos[0].path: "away"}, "unread": []}))
    again = open_store(root, photos, SPEC)
    assert again.photos == photos
    np.testing.assert_array_equal(again.pixels, before)
