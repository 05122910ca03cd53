"""The same command again: what goes on, what is whole already, and what is about something else."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from service.bulk.inputs import Inputs
from service.bulk.local import Station
from service.bulk.parts import clear
from service.errors import BundleError
from tests.bulk_command import begin, classify, rows, set_up, write_photos
from tests.photo_factory import noise


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, models_dir: Path, tmp_path: Path) -> None:
    set_up(monkeypatch, models_dir, tmp_path)


@pytest.fixture(params=["list.txt", "0.jpg", "photos"])
def two_folders(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, str]:
    """Two that hold other photos under the same relative names, and one of these."""
    a, b = tmp_path / "a", tmp_path / "b"
    for seed, folder in enumerate((a, b)):
        write_photos(folder, [seed, seed])
        write_photos(folder / "photos", [seed, seed])
        (folder / "list.txt").write_text("0.jpg\n1.jpg\n")
    return a, b, request.param


def test_relative_names_from_another_folder_are_not_called_whole(
    two_folders: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    a, b, name = two_folders
    out = tmp_path / "r.parquet"
    monkeypatch.chdir(a)
    classify(name, out=out)
    assert "whole already" in classify(name, out=out).stderr
    before = rows(out)
    monkeypatch.chdir(b)
    assert "seen from another folder: --restart" in classify(name, out=out, status=1).stderr
    classify(name, "--restart", out=out)
    assert rows(out) != before


def test_relative_names_from_another_folder_do_not_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", [1, 2])
    (tmp_path / "below").mkdir()
    begin(monkeypatch, "photos", "--chunk", "1")
    monkeypatch.chdir(tmp_path / "below")  # the frozen names would lead nowhere from here
    refused = classify("../photos", "--chunk", "1", out=tmp_path / "r.parquet", status=1)
    assert "relative names were seen from another folder: --restart" in refused.stderr


def test_absolute_names_are_the_same_from_everywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    photos = write_photos(tmp_path / "photos", [1, 2])
    (tmp_path / "list.txt").write_text(f"{photos / '0.jpg'}\n")
    given = [str(photos), str(photos / "1.jpg"), str(tmp_path / "list.txt")]
    found = Inputs(given).digest()
    monkeypatch.chdir("/")
    assert Inputs(given).digest() == found
    assert Inputs([f"{photos}/"]).digest() == Inputs([str(photos)]).digest()


@pytest.mark.parametrize("how", ["cp -p", "rename", "link"])
def test_a_photo_that_takes_anothers_place_with_an_older_time_has_changed(
    tmp_path: Path, how: str
) -> None:
    photo = write_photos(tmp_path / "photos", [1, 2]) / "1.jpg"
    other = tmp_path / "other.jpg"
    other.write_bytes(noise(3))
    os.utime(other, (1.4e9, 1.4e9))
    if how == "link":
        photo.unlink()
        photo.symlink_to("0.jpg")
    classify("photos")
    if how == "cp -p":
        subprocess.run(["cp", "-p", other, photo], check=True)
    elif how == "rename":
        other.replace(photo)
    else:
        photo.unlink()
        photo.symlink_to(other)
    refused = classify("photos", status=1)
    assert "photos/1.jpg has changed: --restart writes it anew" in refused.stderr


def test_photos_of_a_camera_whose_clock_is_ahead_have_not_changed(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", [1, 2])
    (folder / "2.jpg").symlink_to("1.jpg")
    for name in ("0.jpg", "1.jpg"):
        os.utime(folder / name, (4e9, 4e9))
    classify("photos")
    assert "whole already" in classify("photos").stderr
    assert "nothing is new" in classify("photos", "--add").stderr
    os.utime(folder / "1.jpg", (1.4e9, 1.4e9))
    refused = classify("photos", status=1).stderr
    assert "2 have changed, the first photos/1.jpg: --restart" in refused


def test_a_device_that_is_not_there_leaves_nothing_that_another_one_would_be_refused_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", [1, 2])
    assert "CUDAExecutionProvider" in classify("photos", "--device", "cuda", status=1).stderr
    assert not Path("r.parquet.parts").exists()
    begin(monkeypatch, "photos", "--chunk", "1")
    monkeypatch.setattr(Station, "__init__", no_room)
    classify("photos", "--chunk", "1", status=1)
    assert list(Path("r.parquet.parts").glob("chunk-*"))  # what was done is kept


def no_room(*_: object) -> None:
    raise BundleError("there is no room on the GPU")


def test_a_run_goes_on_with_the_chunks_that_it_was_begun_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", [1, 2, 3])
    begin(monkeypatch, "photos", "--chunk", "2")
    assert json.loads(classify("photos", "--json").stdout)["here"] == 1
    assert len(rows()) == 3


def test_a_run_whose_files_were_removed_in_part_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No plan is left that names photos which are written down nowhere."""
    write_photos(tmp_path / "photos", [1, 2, 3])
    begin(monkeypatch, "photos", "--chunk", "1")
    folder = Path("r.parquet.parts")
    (folder / "places").mkdir()  # the photos go before it, and it cannot
    with pytest.raises(OSError, match="places"):
        clear(folder)
    assert not (folder / "inputs").exists()
    (folder / "places").rmdir()
    assert json.loads(classify("photos", "--json").stdout)["here"] == 3
    assert not folder.exists()


def test_a_file_that_is_there_says_what_it_was_made_with(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", [1])
    site = ["--site", "german-household", "--language", "de"]
    classify("photos", *site)
    refused = classify("photos", status=1).stderr
    assert "r.parquet is there already, made with --site german-household (version " in refused
    assert ", names in de), and now it is without --site: --restart writes it anew" in refused
    Path("r.parquet").write_text("somebody's own")
    refused = classify("photos", status=1).stderr
    assert "is there already, and not as a run of this version left it (it was changed" in refused
    assert not Path("r.parquet.parts").exists()
