"""Many files to one Parquet file: what is taken, what is written, what is refused."""

from __future__ import annotations

import io
import json
import os
import random
import time
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from service import cli
from service.bulk import inputs as bulk_inputs
from service.bulk.columns import arrow_type, printable, schema
from service.bulk.inputs import Inputs, in_order
from service.bundle import sha256_of
from service.schemas import Classification
from tests.bulk_command import begin, classify, rows, runner, set_up
from tests.photo_factory import noise
from tests.tiny_bundle import SUPERCLASSES, write_bundle


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, models_dir: Path, tmp_path: Path) -> None:
    set_up(monkeypatch, models_dir, tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine photos, one of them damaged, in folders, and what is none."""
    root = tmp_path / "photos"
    for name in (
        "b/2.jpg",
        "b/10.JPG",
        "a.jpeg",
        "c/d/x.jpg",
        "c/y.jpg",
        "c/z.jpg",
        "e.jpg",
        "f.jpg",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise(len(name) + ord(name[0])))
    (root / "broken.jpg").write_bytes(noise(1)[:-300])
    (root / "notes.txt").write_text("no photo")
    (root / "b" / "README").write_text("no photo")
    return root


IN_ORDER = ["b/10.JPG", "b/2.jpg", "c/d/x.jpg", "c/y.jpg", "c/z.jpg"]
IN_ORDER += ["a.jpeg", "broken.jpg", "e.jpg", "f.jpg"]  # of a folder first the folders in it


def test_a_folder_becomes_a_row_for_each_photo_in_a_stable_order(folder: Path) -> None:
    result = classify("photos", "--chunk", "4")
    found = rows()
    assert [row["path"] for row in found] == [f"photos/{name}" for name in IN_ORDER]
    assert [row["path"] for row in found if row["error"]] == ["photos/broken.jpg"]
    assert "9 photos, 1 bad" in result.stderr
    assert (
        "left out of the folders, no photos by their suffix: 1 .txt, 1 no suffix" in result.stderr
    )
    assert not Path("r.parquet.parts").exists()
    bad = next(row for row in found if row["error"])
    assert "do not decode" in bad["error"]
    assert bad["model"] == "tiny/1"
    assert all(bad[name] is None for name in bad if name not in {"path", "error", "model"})


def test_rows_say_what_the_command_says_without_a_file(folder: Path) -> None:
    classify("photos")
    paths = [f"photos/{name}" for name in IN_ORDER]
    lines = runner.invoke(cli.app, ["classify", *paths, "--json"]).stdout.splitlines()
    for row, line in zip(rows(), map(json.loads, lines), strict=True):
        assert row.pop("path") == line.pop("photo")
        assert row.pop("model") == "tiny/1"
        if row["error"]:
            assert line == {"error": row["error"]}
            continue
        assert row["sorting"] is None
        assert row.pop("error") is None
        for superclass, value in line.pop("probabilities").items():
            assert row.pop(f"probability_{superclass}") == value
        assert row == line


def test_a_sites_rules_are_part_of_a_row_and_of_what_a_run_is(folder: Path) -> None:
    site = ["--site", "german-household", "--language", "de"]
    classify("photos", *site)
    paths = [f"photos/{name}" for name in IN_ORDER]
    lines = runner.invoke(cli.app, ["classify", *paths, *site, "--json"]).stdout.splitlines()
    for row, line in zip(rows(), map(json.loads, lines), strict=True):
        if row["error"] is None:
            found = row["sorting"] | {"probabilities": dict(row["sorting"]["probabilities"])}
            assert found == line["sorting"]
            assert row["decision"] == line["decision"]
    assert "whole already" in classify("photos", *site).stderr
    assert "is there already" in classify("photos", *site[:-1], "en", status=1).stderr
    refused = classify("photos", "--site", "nowhere", "--restart", status=1)
    assert "expected a site of" in refused.stderr
    refused = classify("photos", *site[:-1], "fr", "--restart", status=1)
    assert "expected a language of german-household: de, en, tr, got 'fr'" in refused.stderr
    refused = classify("photos", *site[2:], "--restart", status=1)
    assert "expected a site (--site, SUPERBIN_SITE)" in refused.stderr


def test_batches_of_decoding_threads_say_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of a GPU's session, here on a core."""
    classify("photos")
    alone = rows()
    monkeypatch.setenv("SUPERBIN_DECODE_WORKERS", "3")
    monkeypatch.setenv("SUPERBIN_MAX_BATCH", "2")
    classify("photos", "--restart")
    for one, other in zip(alone, rows(), strict=True):
        for name, value in one.items():
            is_float = isinstance(value, float)  # which is rounded to 1e-6
            expected = pytest.approx(value, abs=1.1e-6) if is_float else value
            if name == "references" and value:
                assert [item["id"] for item in other[name]] == [item["id"] for item in value]
            else:
                assert other[name] == expected


def test_a_list_a_pipe_and_single_photos_are_taken_as_they_stand(folder: Path) -> None:
    named = [f"photos/{name}" for name in ("f.jpg", "a.jpeg", "f.jpg", "missing.jpg")]
    text = "\n".join([named[0], "", named[1] + "\r", *named[2:]])
    Path("list.txt").write_text(text)
    for arguments in (["list.txt"], ["-"], named):
        classify(*arguments, "--restart", stdin=text.encode())
        found = rows()
        assert [row["path"] for row in found] == named
        assert found[0] == found[2]
        assert "No such file" in found[3]["error"]


def test_the_file_says_what_it_was_made_with_and_nothing_of_the_machine(folder: Path) -> None:
    classify("photos")
    metadata = {k.decode(): v.decode() for k, v in pq.read_schema("r.parquet").metadata.items()}
    assert metadata["superbin.model"] == "tiny"
    assert metadata["superbin.version"] == "1"
    assert len(metadata["superbin.sha256"]) == 64
    manifest = Path(os.environ["SUPERBIN_MODELS_DIR"]) / "tiny/1/manifest.json"
    assert metadata["superbin.manifest_sha256"] == sha256_of(manifest)
    assert json.loads(metadata["superbin.settings"])["max_photo_bytes"] == 20_000_000
    assert metadata["superbin.photos"] == "9"
    assert metadata["superbin.started"].endswith("+00:00")
    assert str(folder) not in str(metadata)
    assert os.uname().nodename not in str(metadata)


def test_the_same_command_leaves_a_whole_file_and_another_is_refused(folder: Path) -> None:
    classify("photos")
    before = Path("r.parquet").read_bytes()
    assert "whole already" in classify("photos").stderr
    assert Path("r.parquet").read_bytes() == before
    refused = classify("photos/f.jpg", status=1)
    assert "is there already" in refused.stderr
    assert Path("r.parquet").read_bytes() == before
    assert not Path("r.parquet.parts").exists()
    classify("photos/f.jpg", "--restart")
    assert len(rows()) == 1


@pytest.mark.parametrize("change", ["new", "gone", "other"])
def test_a_folder_that_has_changed_is_not_said_to_be_answered(folder: Path, change: str) -> None:
    classify("photos")
    before = Path("r.parquet").read_bytes()
    if change == "new":
        (folder / "d.jpg").write_bytes(noise(9))
    elif change == "gone":
        (folder / "a.jpeg").unlink()  # others follow it
    else:
        (folder / "f.jpg").write_bytes(noise(9))
        later = time.time() + 10
        os.utime(folder / "f.jpg", (later, later))
    refused = classify("photos", status=1)
    assert "--restart writes it anew" in refused.stderr
    told = {"new": "photos/d.jpg is new", "gone": "photos/a.jpeg is gone"}
    assert told.get(change, "photos/f.jpg has changed") in refused.stderr
    assert Path("r.parquet").read_bytes() == before
    classify("photos", "--restart")
    assert len(rows()) == 9 + {"new": 1, "gone": -1, "other": 0}[change]


@pytest.mark.parametrize("in_memory", [2, 50_000])  # of two by way of the disk
def test_all_that_is_gone_or_new_is_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    odd = folder / os.fsdecode(b"\xff.jpg")
    odd.write_bytes(noise(5))
    classify("photos")
    monkeypatch.setattr(bulk_inputs, "SORTED_IN_MEMORY", in_memory)
    for name in ("c/y.jpg", "c/z.jpg"):
        (folder / name).unlink()
    refused = classify("photos", status=1)
    assert "2 are gone, the first photos/c/y.jpg: --restart" in refused.stderr
    (folder / "e.jpg").rename(folder / "c" / "e.jpg")
    refused = classify("photos", status=1)
    assert "3 are gone, the first photos/c/y.jpg and photos/c/e.jpg is new:" in refused.stderr


def test_a_summary_can_be_a_line_of_json(folder: Path) -> None:
    told = json.loads(classify("photos", "--json").stdout)
    assert (told["photos"], told["bad"], told["here"]) == (9, 1, 9)
    assert sum(told["decisions"].values()) == sum(told["superclasses"].values()) == 8
    assert (told["bins"], told["bin_names"], told["reasons"]) == ({}, {}, {})
    assert told["left_out"] == {".txt": 1, "no suffix": 1}


def test_the_progress_of_a_run_that_goes_on_counts_all_bad_photos(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "b" / "10.JPG").write_bytes(noise(1)[:-300])
    begin(monkeypatch, "photos", "--chunk", "4")
    told = classify("photos", "--chunk", "4").stderr
    assert "photos: 9/9, " in told
    assert " a second, 2 bad" in told
    assert "9 photos, 2 bad" in told


def test_one_photo_is_told_as_one(folder: Path) -> None:
    (folder.parent / "list.txt").write_text("photos/f.jpg\n")
    told = classify("list.txt").stderr
    assert "r.parquet: 1 photo, 0 bad" in told
    assert "\n1 photo in " in told


def test_what_was_begun_goes_on_with_the_photos_that_there_were(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(monkeypatch, "photos", "--chunk", "4")
    (folder / "new.jpg").write_bytes(noise(3))
    told = json.loads(classify("photos", "--chunk", "4", "--json").stdout)
    assert told["here"] == 5
    assert [row["path"] for row in rows()] == [f"photos/{name}" for name in IN_ORDER]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"arguments": ["photos/b"]}, "begun for other photos"),
        ({"chunk": "5"}, "begun with --chunk 4, and now it is 5: without --chunk it goes on"),
        (
            {"SUPERBIN_MAX_PHOTO_PIXELS": "49999999"},
            "begun with SUPERBIN_MAX_PHOTO_PIXELS=50000000, and now it is with ",
        ),
        (
            {"arguments": ["photos", "--site", "german-household"]},
            "begun without --site, and now it is with --site german-household ",
        ),
        ({"threshold": 0.9}, "begun by the model tiny/1 (fp32"),
    ],
)
def test_another_run_does_not_go_on_with_it(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    change: dict[str, Any],
    told: str,
) -> None:
    begin(monkeypatch, "photos", "--chunk", "4")
    if "threshold" in change:  # the same name and version, another manifest
        write_bundle(tmp_path / "others", threshold=change["threshold"])
        monkeypatch.setenv("SUPERBIN_MODELS_DIR", str(tmp_path / "others"))
    for name in change.keys() & {"SUPERBIN_MAX_PHOTO_PIXELS"}:
        monkeypatch.setenv(name, change[name])
    arguments = [*change.get("arguments", ["photos"]), "--chunk", change.get("chunk", "4")]
    refused = classify(*arguments, status=1)
    assert told in refused.stderr
    assert "--restart begins anew" in refused.stderr
    classify(*arguments, "--restart")


def test_a_part_that_is_not_whole_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(monkeypatch, "photos", "--chunk", "4")
    (part,) = Path("r.parquet.parts").glob("chunk-*")
    part.write_bytes(part.read_bytes()[:-100])
    told = json.loads(classify("photos", "--chunk", "4", "--json").stdout)
    assert told["here"] == 9
    assert len(rows()) == 9


def test_what_cannot_be_meant_is_told_in_a_line(folder: Path) -> None:
    Path("empty").mkdir()
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("no photo")
    Path("empty.txt").write_text("\n")
    Path("program").write_bytes(b"\x7fELF\0\0")
    for given, told in {
        "nowhere": "and 'nowhere' is not there",
        "empty": "in the folder empty, got nothing",
        "texts": "in the folder texts, got 1 .txt",
        "empty.txt": "expected a path a line in the list empty.txt, got an empty one",
        "program": "program is binary",
    }.items():
        result = classify(given, status=1)
        assert told in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not Path("r.parquet.parts").exists()


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("nowhere/r.parquet", "expected a folder to write nowhere/r.parquet into"),
        (
            "r.txt",
            "expected a Parquet or CSV file for the results, such as r.parquet or r.csv, got",
        ),
        ("photos", "expected a file's name for the results, got the folder photos"),
        ("/proc/r.parquet", "cannot write into /proc"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_any_work(
    folder: Path, out: str, told: str
) -> None:
    result = runner.invoke(cli.app, ["classify", "photos", "--out", out])
    assert result.exit_code == 1
    assert told in result.stderr


def test_a_folder_without_out_is_told_what_it_needs(folder: Path) -> None:
    result = runner.invoke(cli.app, ["classify", "photos"])
    assert result.exit_code == 1
    assert "need --out results.parquet" in result.stderr


def test_names_that_are_no_utf_8_get_a_row(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff\n.jpg")).write_bytes(noise(5))
    classify("photos")
    assert rows()[-1]["path"] == "photos/\\xff\n.jpg"
    assert rows()[-1]["error"] is None
    assert printable("küche.jpg") == "küche.jpg"


def test_a_pipe_that_is_named_like_a_photo_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "z.jpg")
    classify("photos")
    assert rows()[-1]["path"] == "photos/z.jpg"
    assert rows()[-1]["error"] == "expected a file, and this is no regular one"


def test_a_lists_byte_order_mark_is_no_part_of_a_path(folder: Path) -> None:
    named = folder.parent / "list.txt"
    named.write_text("\ufeffphotos/f.jpg\n\ufeffphotos/g.jpg\n")
    paths = list(Inputs([str(named)]).paths())
    assert paths == [b"photos/f.jpg", "\ufeffphotos/g.jpg".encode()]


def test_a_list_that_leads_nowhere_says_from_where_it_was_read(folder: Path) -> None:
    (folder.parent / "list.txt").write_text("a.jpg\nb.jpg\n")
    for _ in range(2):  # also once it is whole
        assert "seen from the current folder" in classify("list.txt", status=1).stderr
        assert [row["path"] for row in rows()] == ["a.jpg", "b.jpg"]
    assert "seen from the current folder" not in classify("photos", "--restart").stderr


def test_links_to_photos_are_followed_and_links_to_folders_counted(folder: Path) -> None:
    (folder / "z.jpg").symlink_to("f.jpg")
    (folder / "loop").symlink_to(".")
    result = classify("photos")
    assert rows()[-1]["path"] == "photos/z.jpg"
    assert "1 links to folders" in result.stderr


@pytest.mark.parametrize("many", [0, 9, 10, 11, 95])
def test_many_names_are_sorted_by_way_of_the_disk(
    monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(bulk_inputs, "SORTED_IN_MEMORY", 10)
    names = [b"f%d\n.jpg" % i for i in range(many)]
    expected = sorted(names)
    random.Random(many).shuffle(names)
    assert list(in_order(names)) == expected


def test_a_digest_tells_lists_apart_and_not_how_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(given: list[str]) -> str:
        return Inputs(given).digest()

    Path("one.txt").write_text("a.jpg\nb.jpg\n")
    Path("two.txt").write_text("a.jpg\nc.jpg\n")
    Path("three.txt").write_text("a.jpg\r\n\nb.jpg")
    assert digest(["one.txt"]) == digest(["three.txt"]) != digest(["two.txt"])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a.jpg\nb.jpg\n")))
    assert digest(["-"]) == digest(["one.txt"])


def test_every_field_of_an_answer_has_a_column() -> None:
    names = schema(SUPERCLASSES).names
    own = {"filename", "probabilities", "review"}  # nothing is kept for review
    assert set(Classification.model_fields) - own <= set(names)
    assert [f"probability_{one}" for one in SUPERCLASSES] == [
        n for n in names if "probability_" in n
    ]


def test_columns_follow_from_a_models_fields() -> None:
    class Inner(BaseModel):
        name: str | None
        costs: dict[str, float]

    class Outer(BaseModel):
        inner: Inner | None
        seen: list[Inner]
        kind: Literal["a", "b"]

    found = {name: arrow_type(field.annotation) for name, field in Outer.model_fields.items()}
    inner = pa.struct([("name", pa.string()), ("costs", pa.map_(pa.string(), pa.float64()))])
    assert found == {"inner": inner, "seen": pa.list_(inner), "kind": pa.string()}
    with pytest.raises(TypeError, match="expected a type that has a column"):
        arrow_type(complex)
