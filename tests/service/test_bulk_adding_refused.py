"""`--add` keeps no row of a photo that is another one now, and adds to no file of another run."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.bulk.witnesses import Witnesses
from service.bundle import sha256_of
from tests.bulk_command import (
    OUTS,
    SITE,
    begin,
    classify,
    grow,
    rows,
    set_up_to_add,
    write_photos,
)
from tests.photo_factory import noise
from tests.tiny_bundle import write_bundle


@pytest.fixture(autouse=True)
def photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return set_up_to_add(monkeypatch, tmp_path)


@pytest.mark.parametrize("out", OUTS)
def test_photos_that_changed_or_are_gone_are_told_and_nothing_is_added(
    photos: Path, out: str
) -> None:
    classify("photos", out=out)
    before = Path(out).read_bytes()
    grow(photos)
    (photos / "1.jpg").write_bytes(noise(40))
    refused = classify("photos", "--add", out=out, status=1).stderr
    assert "photos/1.jpg has changed and 8 are new, the first photos/00.jpg: --add keeps" in refused
    (photos / "2.jpg").write_bytes(noise(41))
    (photos / "0.jpg").unlink()
    (photos / "monday/0.jpg").rename(photos / "monday/1.jpg")
    refused = classify("photos", "--add", out=out, status=1).stderr
    assert (
        "3 have changed, the first photos/1.jpg and 2 are gone, the first photos/0.jpg" in refused
    )
    assert "--restart writes it anew; or list what is new, and give that a file" in refused
    assert Path(out).read_bytes() == before
    assert not Path(f"{out}.parts").exists()


def test_a_photo_that_takes_anothers_place_with_an_older_time_is_not_kept(
    photos: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(noise(50))
    os.utime(other, (1.4e9, 1.4e9))
    classify("photos")
    (photos / "9.jpg").write_bytes(noise(9))
    subprocess.run(["cp", "-p", other, photos / "3.jpg"], check=True)
    assert "photos/3.jpg has changed" in classify("photos", "--add", status=1).stderr


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (None, "some that have not changed have another size now, as if folders had been renamed"),
        (200_000, "photos/0.jpg has another answer now than its row, as if this were another"),
    ],
)
@pytest.mark.parametrize("out", OUTS)
def test_another_folder_in_the_same_place_is_not_taken_for_it(
    photos: Path, out: str, size: int | None, told: str
) -> None:
    """As a disk with older photos of the same names; some formats' photos are all of one size."""
    pad(photos, size)
    classify("photos", out=out)
    write_photos(photos, range(60, 65))  # 0 to 4, where there were 0 to 3
    pad(photos, size)
    if out == "r.csv":  # the run began after all this
        beside = Path("r.csv.superbin.json")
        later = json.loads(beside.read_text()) | {"started": "2999-01-01T00:00:00+00:00"}
        beside.write_text(json.dumps(later))
    else:
        about = pq.read_schema(out).metadata | {b"superbin.started": b"2999-01-01T00:00:00+00:00"}
        pq.write_table(pq.read_table(out).replace_schema_metadata(about), out)
    before = Path(out).read_bytes()
    refused = classify("photos", "--add", out=out, status=1).stderr
    assert told in refused
    assert Path(out).read_bytes() == before
    assert not Path(f"{out}.parts").exists()


def pad(folder: Path, size: int | None) -> None:
    """To so many bytes, with zeros after a picture's end."""
    for path in folder.glob("*.jpg") if size else ():
        path.write_bytes(path.read_bytes().ljust(size or 0, b"\0"))


@pytest.mark.parametrize("out", OUTS)
def test_folders_that_are_renamed_into_each_others_places_are_told(
    tmp_path: Path, out: str
) -> None:
    """Their photos keep all times, and of more than sixteen not each is answered once more."""
    folder = write_photos(tmp_path / "many", range(36))
    for name in "abcd":
        write_photos(folder / name, [ord(name)])
    assert not {1, 3} & Witnesses(40).rows

    def swap() -> None:
        for before, after in (("b", "t"), ("d", "b"), ("t", "d")):
            (folder / before).rename(folder / after)

    classify("many", out=out)
    swap()
    for new in ("", "new.jpg"):
        if new:
            (folder / new).write_bytes(noise(99))
        refused = classify("many", "--add", out=out, status=1).stderr
        assert "some that have not changed have another size now, as if folders had been" in refused
        swap()
        classify("many", "--add", out=out)
        swap()
    assert "have another size now" in classify("many", out=out, status=1).stderr
    swap()
    assert "whole already" in classify("many", out=out).stderr


def test_photos_that_are_not_there_keep_their_rows_until_they_are(
    photos: Path, tmp_path: Path
) -> None:
    """As of a disk that was not mounted, where photos have older times than the run."""
    elsewhere = write_photos(tmp_path / "elsewhere", [5])
    Path("list.txt").write_text("disk/0.jpg\n")
    classify("list.txt", "photos")
    (photos / "9.jpg").write_bytes(noise(9))
    classify("list.txt", "photos", "--add")
    Path("disk").symlink_to(elsewhere)
    refused = classify("list.txt", "photos", "--add", status=1).stderr
    assert "some that have not changed have another size now" in refused


@pytest.mark.parametrize(("photo", "is_kept"), [("0.jpg", False), ("2.jpg", True)])
@pytest.mark.parametrize("out", OUTS)
def test_equally_sure_photos_are_told_by_their_strongest_reference(
    photos: Path, out: str, photo: str, is_kept: bool
) -> None:
    """The second is in its place; of one photo the first two are as strong as each other."""
    classify("photos")
    classify("photos", out="r.csv")
    found = rows()
    (row,) = (row for row in found if row["path"] == f"photos/{photo}")
    first, second, *_ = references = row["references"]
    assert (first["weight"] - second["weight"] < 0.01) == is_kept
    row["references"] = [second, first, *references[2:]]
    pq.write_table(pa.Table.from_pylist(found, pq.read_schema("r.parquet")), "r.parquet")
    lines = Path("r.csv").read_bytes().splitlines(keepends=True)
    (line,) = (line for line in lines if f"photos/{photo}".encode() in line)
    changed = line.replace(f",{first['id']},".encode(), f",{second['id']},".encode())
    Path("r.csv").write_bytes(b"".join(lines).replace(line, changed))
    beside = Path("r.csv.superbin.json")
    about = json.loads(beside.read_bytes()) | {"file_sha256": sha256_of(Path("r.csv"))}
    beside.write_text(json.dumps(about))
    grow(photos)
    told = classify("photos", "--add", out=out, status=0 if is_kept else 1).stderr
    assert (f"photos/{photo} has another answer now than its row" in told) != is_kept


@pytest.mark.parametrize("kept", [1, 2, 15, 16, 17, 20, 31, 33, 1_000_003])
def test_photos_that_are_answered_once_more_are_spread_evenly(kept: int) -> None:
    chosen = sorted(Witnesses(kept).rows)
    assert len(chosen) == min(16, kept)
    apart = {later - one for one, later in pairwise([*chosen, kept])}
    assert max(apart) - min(apart) <= 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (["photos", *SITE], "made without --site, and now it is with --site german-household"),
        (["photos/monday"], "made for other photos"),
        (["photos", "photos/monday"], "made for other photos"),
        (["photos", "--restart"], "expected --add or --restart, got both"),
        (["photos", "-"], "expected folders with --add, got -"),
    ],
)
def test_only_the_same_command_adds(photos: Path, change: list[str], told: str) -> None:
    classify("photos")
    before = Path("r.parquet").read_bytes()
    grow(photos)
    assert told in classify(*change, "--add", status=1).stderr
    assert Path("r.parquet").read_bytes() == before


def test_neither_another_model_nor_another_limit_adds(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, models_dir: Path
) -> None:
    classify("photos")
    grow(photos)
    with monkeypatch.context() as patched:
        patched.setenv("SUPERBIN_MAX_PHOTO_PIXELS", "49999999")
        refused = classify("photos", "--add", status=1).stderr
        assert "made with SUPERBIN_MAX_PHOTO_PIXELS=50000000, and now it is with " in refused
    monkeypatch.setenv("SUPERBIN_MODELS_DIR", str(models_dir))
    refused = classify("photos", "--add", status=1).stderr
    assert "is there already, made by the model tiny/1 (fp32, manifest " in refused
    assert "asks that one" not in refused


def test_a_newer_version_adds_nothing_and_the_older_one_goes_on(
    photos: Path, tmp_path: Path
) -> None:
    classify("photos")
    new = grow(photos)
    write_bundle(tmp_path / "models", version="2")
    refused = classify("photos", "--add", status=1).stderr
    assert "; --model tiny/1 asks that one: --restart writes it anew" in refused
    added = classify("photos", "--add", "--model", "tiny/1").stderr
    assert f"{new} photos added" in added


def test_relative_names_from_another_folder_do_not_add(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    classify("photos")
    write_photos(tmp_path / "b" / "photos", range(6))
    monkeypatch.chdir(tmp_path / "b")
    refused = classify("photos", "--add", out=tmp_path / "r.parquet", status=1).stderr
    assert "relative names were seen from another folder: --restart" in refused


@pytest.mark.parametrize("out", OUTS)
def test_a_file_that_somebody_has_worked_on_gets_nothing_added(photos: Path, out: str) -> None:
    classify("photos", out=out)
    grow(photos)
    if out == "r.csv":
        with Path(out).open("a") as file:
            file.write("a,note\n")
        assert "not as a run of" in classify("photos", "--add", out=out, status=1).stderr
        return
    table = pq.read_table(out)
    pq.write_table(table.slice(1), out)  # with what the file says of itself
    assert "not as a run of" in classify("photos", "--add", out=out, status=1).stderr
    pq.write_table(table.append_column("note", pa.array(["mine"] * len(table))), out)
    assert "expected the columns of this" in classify("photos", "--add", out=out, status=1).stderr


@pytest.mark.parametrize("out", OUTS)
def test_a_file_that_changes_while_rows_are_added_to_it_is_refused(
    photos: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    classify("photos", out=out)
    before = Path(out).read_bytes()
    grow(photos)
    begin(monkeypatch, "photos", "--add", "--chunk", "2", out=out)
    Path(out).unlink()
    refused = classify("photos", "--add", out=out, status=1).stderr
    assert f"expected {out} as it was when it was begun to add to it" in refused
    assert list(Path(f"{out}.parts").glob("chunk-*"))
    Path(out).write_bytes(before)
    classify("photos", "--add", out=out)
    assert "whole already" in classify("photos", out=out).stderr


@pytest.mark.parametrize("column", ["path", "probability_recyclable", "confidence"])
def test_a_damaged_file_is_told_as_that_and_stays_as_it_is(photos: Path, column: str) -> None:
    """What is read to see what is new, of the photos answered once more, and to write them all."""
    classify("photos")
    group = pq.read_metadata("r.parquet").row_group(0)
    names = [group.column(number).path_in_schema for number in range(group.num_columns)]
    about = group.column(names.index(column))
    with Path("r.parquet").open("r+b") as file:
        file.seek(about.dictionary_page_offset or about.data_page_offset)
        file.write(b"\xff" * about.total_compressed_size)
    before = Path("r.parquet").read_bytes()
    grow(photos)
    for _ in range(2):
        refused = classify("photos", "--add", status=1).stderr
        assert "r.parquet cannot be read: --restart writes it anew (" in refused
        assert "cannot write" not in refused
    assert Path("r.parquet").read_bytes() == before
    classify("photos", "--restart")
    assert "nothing is new" in classify("photos", "--add").stderr
