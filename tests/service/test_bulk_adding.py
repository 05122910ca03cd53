"""`--add`: photos that are new get rows among those that are there, which stay as they are."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.bulk import adding, merged
from service.bundle import sha256_of
from service.errors import BulkError
from tests.bulk_command import (
    OUTS,
    SITE,
    begin,
    classify,
    grow,
    rows,
    set_up_to_add,
)
from tests.photo_factory import noise


@pytest.fixture(autouse=True)
def photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return set_up_to_add(monkeypatch, tmp_path)


def told_of(out: str) -> dict[str, str]:
    return merged.metadata_of(Path(out))


@pytest.mark.parametrize("options", [[], SITE])
@pytest.mark.parametrize("out", OUTS)
def test_what_is_added_ends_as_one_run_over_all(photos: Path, out: str, options: list[str]) -> None:
    """The same rows in the same order, of a CSV the same bytes, and the same counts."""
    classify("photos", *options, "--chunk", "3", out=out)
    before = told_of(out)
    new = grow(photos)
    told = classify("photos", *options, "--chunk", "3", "--add", "--json", out=out)
    found = json.loads(told.stdout)
    assert (found["photos"], found["here"], found["added"], found["bad"]) == (7 + new, new, new, 2)
    assert found["left_out"] == {".txt": 1}
    whole = f"whole{Path(out).suffix}"
    expected = json.loads(classify("photos", *options, "--json", out=whole).stdout)
    assert {name: found[name] for name in expected if name not in {"out", "here", "seconds"}} == {
        name: expected[name] for name in expected if name not in {"out", "here", "seconds"}
    } | {"added": new}
    if out == "r.csv":
        assert Path(out).read_bytes() == Path(whole).read_bytes()
    else:
        assert rows(out) == rows(whole)
        assert pq.read_schema(out).equals(pq.read_schema(whole))
    after = told_of(out)
    differing = {"run", "started", "photos", "counts", "left_out", "sizes"}
    differing.add(merged.FILE_SHA256)
    assert {name for name in after if after[name] != before[name]} <= differing
    assert before["run"] != after["run"]
    assert before["sizes"] != after["sizes"] == told_of(whole)["sizes"]
    assert before["started"] < after["started"]
    assert "whole already" in classify("photos", *options, out=out).stderr
    assert not Path(f"{out}.parts").exists()


def test_rows_that_are_there_are_not_answered_again(photos: Path) -> None:
    """Seen by what only they say."""
    classify("photos")
    table = pq.read_table("r.parquet")
    place = table.schema.get_field_index("model")
    own = pa.array(["tiny/own"] * len(table))
    pq.write_table(table.set_column(place, "model", own), "r.parquet")
    before = {row["path"]: row for row in rows()}
    new = grow(photos)
    told = classify("photos", "--add").stderr
    assert f"r.parquet: {7 + new} photos, 2 bad" in told
    assert f"{new} photos added to the 7 that had rows" in told
    assert f"\n{new} photos in " in told
    assert {row["path"]: row for row in rows() if row["model"] == "tiny/own"} == before


def test_lines_that_are_there_stay_to_the_byte(photos: Path) -> None:
    classify("photos", out="r.csv")
    written = Path("r.csv").read_bytes().replace(b"tiny/1", b'"tiny, own"')
    Path("r.csv").write_bytes(written)
    beside = Path("r.csv.superbin.json")
    told = json.loads(beside.read_bytes()) | {"file_sha256": sha256_of(Path("r.csv"))}
    beside.write_text(json.dumps(told))
    grow(photos)
    classify("photos", "--add", out="r.csv")
    lines = Path("r.csv").read_bytes().splitlines(keepends=True)
    assert b"".join(line for line in lines if b"tiny/1" not in line) == written


@pytest.mark.parametrize("out", OUTS)
def test_where_nothing_is_new_nothing_is_touched(photos: Path, out: str) -> None:
    classify("photos", "--add", out=out)  # there is no file yet: the first run
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path().glob("r.*")}
    told = classify("photos", "--add", out=out)
    assert "nothing is new: it was whole already" in told.stderr
    assert json.loads(classify("photos", "--add", "--json", out=out).stdout)["added"] == 0
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path().glob("r.*")}
    assert after == before


def test_where_no_photo_could_be_answered_the_status_says_so_each_time(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.jpg").write_bytes(noise(1)[:-300])
    classify("bad", "--add", status=1)
    assert "nothing is new" in classify("bad", "--add", status=1).stderr
    (tmp_path / "bad" / "1.jpg").write_bytes(noise(2))
    classify("bad", "--add")
    assert "nothing is new" in classify("bad", "--add").stderr


def test_without_the_option_what_is_new_is_told_with_how_to_add_it(photos: Path) -> None:
    classify("photos")
    (photos / "9.jpg").write_bytes(noise(9))
    refused = classify("photos", status=1).stderr
    assert "photos/9.jpg is new: --add adds what is new, --restart writes it anew" in refused
    (photos / "0.jpg").unlink()
    assert "--add" not in classify("photos", status=1).stderr


def test_what_was_interrupted_is_finished_before_anything_is_added(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(monkeypatch, "photos", "--chunk", "3")
    new = grow(photos)
    found = json.loads(classify("photos", "--add", "--json").stdout)
    assert (found["photos"], found["here"], found["added"]) == (7 + new, 4 + new, new)
    classify("photos", out="whole.parquet")
    assert rows() == rows("whole.parquet")


@pytest.mark.parametrize("again", [["--add"], []])
@pytest.mark.parametrize("out", OUTS)
def test_what_is_being_added_goes_on_with_the_photos_that_there_were(
    photos: Path, monkeypatch: pytest.MonkeyPatch, out: str, again: list[str]
) -> None:
    classify("photos", out=out)
    before = Path(out).read_bytes()
    new = grow(photos)
    begin(monkeypatch, "photos", "--add", "--chunk", "2", out=out)
    assert Path(out).read_bytes() == before
    (photos / "later.jpg").write_bytes(noise(70))
    refused = classify("photos", *SITE, *again, out=out, status=1).stderr
    assert "this run was begun without --site" in refused
    found = json.loads(classify("photos", *again, "--json", out=out).stdout)
    later = 1 if again else 0
    assert (found["here"], found["added"]) == (new - 2 + later, new + later)
    if not again:
        assert "photos/later.jpg is new" in classify("photos", out=out, status=1).stderr
    classify("photos", "--add", out=out)
    classify("photos", out=f"whole{Path(out).suffix}")
    if out == "r.csv":
        assert Path(out).read_bytes() == Path("whole.csv").read_bytes()
    else:
        assert rows() == rows("whole.parquet")


@pytest.mark.parametrize("out", OUTS)
def test_what_was_answered_before_a_power_cut_is_added_without_more_work(
    photos: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    def never(path: Path, name: Path) -> None:
        raise BulkError("a power cut")

    classify("photos", out=out)
    before = Path(out).read_bytes()
    new = grow(photos)
    with monkeypatch.context() as patched:
        patched.setattr(merged, "_take_name", never)
        classify("photos", "--add", out=out, status=1)
    assert Path(out).read_bytes() == before
    told = classify("photos", "--add", out=out).stderr
    assert f"{new} photos added to the 7 that had rows" in told
    assert "whole already" not in told
    assert "nothing is new" in classify("photos", "--add", out=out).stderr


def test_a_csv_that_took_its_name_before_a_power_cut_is_whole(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its old rows are nowhere else."""
    take = merged._take_name

    def once(path: Path, name: Path) -> None:
        if name.suffix == ".json":
            raise BulkError("a power cut")
        take(path, name)

    classify("photos", out="r.csv")
    new = grow(photos)
    with monkeypatch.context() as patched:
        patched.setattr(merged, "_take_name", once)
        classify("photos", "--add", out="r.csv", status=1)
    found = json.loads(classify("photos", "--add", "--json", out="r.csv").stdout)
    assert (found["photos"], found["here"]) == (7 + new, 0)
    assert "whole already" in classify("photos", out="r.csv").stderr
    assert sorted(path.name for path in Path().glob("r.*")) == ["r.csv", "r.csv.superbin.json"]


def test_lists_and_photos_beside_a_folder_stay_and_repeated_ones_keep_their_rows(
    photos: Path,
) -> None:
    Path("list.txt").write_text("photos/2.jpg\nphotos/missing.jpg\nphotos/2.jpg\n")
    given = ["list.txt", "photos", "photos/2.jpg"]
    classify(*given)
    new = grow(photos)
    assert json.loads(classify(*given, "--add", "--json").stdout)["added"] == new
    classify(*given, out="whole.parquet")
    assert rows() == rows("whole.parquet")
    with Path("list.txt").open("a") as file:
        file.write("photos/z.jpg\n")
    assert "made for other photos" in classify(*given, "--add", status=1).stderr


@pytest.mark.parametrize("out", OUTS)
def test_odd_names_keep_their_rows(photos: Path, out: str) -> None:
    for name in (b"\xff.jpg", b"=1+1.jpg", b"a\nb\r.jpg", 'k\u00fcche, "neu".jpg'.encode()):
        (photos / os.fsdecode(name)).write_bytes(noise(5))
    classify("photos", out=out)
    (photos / os.fsdecode(b"\xfe.jpg")).write_bytes(noise(6))
    assert json.loads(classify("photos", "--add", "--json", out=out).stdout)["added"] == 1
    assert "whole already" in classify("photos", out=out).stderr


@pytest.mark.parametrize("out", OUTS)
def test_a_photo_that_comes_while_the_folder_is_gone_through_is_left_to_the_next_command(
    photos: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    """Its row would be one of a photo that has changed since the run began, for ever."""
    look = adding.beside_rows

    def late(*given: Any) -> Any:
        began, path = time.time(), photos / "z.jpg"
        while not path.exists() or path.stat().st_ctime <= began:  # file systems' clocks are coarse
            path.write_bytes(noise(70))
        return look(*given)

    classify("photos", out=out)
    (photos / "9.jpg").write_bytes(noise(9))
    with monkeypatch.context() as patched:
        patched.setattr(adding, "beside_rows", late)
        assert json.loads(classify("photos", "--add", "--json", out=out).stdout)["added"] == 1
    assert "photos/z.jpg is new" in classify("photos", out=out, status=1).stderr
    assert json.loads(classify("photos", "--add", "--json", out=out).stdout)["added"] == 1
    assert "whole already" in classify("photos", out=out).stderr
