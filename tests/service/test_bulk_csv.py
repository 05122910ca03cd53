"""Many files to one CSV file: what a spreadsheet gets, and that it goes on as Parquet does."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from service.bulk import merged
from service.errors import BulkError
from tests.bulk_command import begin, classify, rows, set_up, write_doubting, write_photos
from tests.photo_factory import encode, noise

FIRST = ("id", "superclass", "subclass")
SITE = ["--site", "german-household", "--language", "de"]


@pytest.fixture(autouse=True)
def photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Five, one of them bad."""
    set_up(monkeypatch, write_doubting(tmp_path / "models"), tmp_path)
    folder = write_photos(tmp_path / "photos", range(4))
    (folder / "bad.jpg").write_bytes(noise(1)[:-300])
    return folder


def cells() -> list[dict[str, str]]:
    with Path("r.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("site", [[], SITE])
def test_a_row_is_flat_and_says_what_parquet_says(photos: Path, site: list[str]) -> None:
    (photos / "0.jpg").write_bytes(encode(Image.new("RGB", (40, 40)), "JPEG"))
    classify("photos", *site, "--chunk", "2")
    told = classify("photos", *site, "--chunk", "2", out="r.csv").stderr
    assert "r.csv: 5 photos, 1 bad" in told
    for row, flat in zip(rows(), cells(), strict=True):
        sorting, references = row.pop("sorting") or {}, row.pop("references") or [{}]
        row["doubts"] = " ".join(one["reason"] for one in row["doubts"] or [])
        row |= {f"reference_{one}": references[0].get(one) for one in FIRST}
        if site:
            row |= {"bin": sorting.get("bin"), "bin_name": sorting.get("name")}
            row |= {"best": sorting.get("best"), "best_probability": sorting.get("probability")}
            row["reasons"] = " ".join(sorting.get("reasons", []))
        row["guide"] = (row["guide"] or [{}])[0].get("name")
        assert flat == {name: "" if one is None else str(one) for name, one in row.items()}
    assert "too_dark blurred" in cells()[0]["doubts"]


def test_a_spreadsheet_is_told_the_coding_and_works_nothing_out(photos: Path) -> None:
    for name in ("=1+1.jpg", "@x.jpg", 'k\u00fcche, "neu".jpg', "a\nb\r.jpg"):
        (photos / name).write_bytes(noise(5))
    Path("list.txt").write_text("=1+1.jpg\n@x.jpg\n")
    for name in ("=1+1.jpg", "@x.jpg"):
        Path(name).write_bytes(noise(5))
    classify("list.txt", "photos", out="r.csv")
    assert Path("r.csv").read_bytes().startswith(b"\xef\xbb\xbfpath,superclass,")
    paths = [row["path"] for row in cells()]
    assert paths[:2] == ["'=1+1.jpg", "'@x.jpg"]
    assert {'photos/k\u00fcche, "neu".jpg', "photos/a\nb\r.jpg"} < set(paths)
    assert "whole already" in classify("list.txt", "photos", out="r.csv").stderr


def test_a_csv_that_is_whole_says_what_is_new_or_changed(photos: Path) -> None:
    (photos / os.fsdecode(b"\xff.jpg")).write_bytes(noise(5))
    classify("photos", out="r.csv")
    assert "whole already" in classify("photos", out="r.csv").stderr
    assert "made with" not in classify("photos", out="r.csv").stderr
    refused = classify("photos", *SITE, out="r.csv", status=1).stderr
    assert "r.csv is there already, made without --site, and now it is with --site ger" in refused
    (photos / "9.jpg").write_bytes(noise(9))
    assert "photos/9.jpg is new" in classify("photos", out="r.csv", status=1).stderr
    (photos / "9.jpg").unlink()
    (photos / "0.jpg").write_bytes(noise(9))
    assert "photos/0.jpg has changed" in classify("photos", out="r.csv", status=1).stderr


def test_a_csv_that_somebody_has_changed_is_not_called_whole() -> None:
    classify("photos", out="r.csv")
    beside = Path("r.csv.superbin.json")
    assert json.loads(beside.read_text())["model"] == "tiny"
    with Path("r.csv").open("a") as file:
        file.write("a,note\n")
    refused = classify("photos", out="r.csv", status=1).stderr
    assert "not as a run of this version left it (it was changed since, or " in refused
    assert refused.endswith("): --restart writes it anew\n")
    classify("photos", "--restart", out="r.csv")
    assert "whole already" in classify("photos", out="r.csv").stderr
    for told in ("[]", "no JSON"):
        beside.write_text(told)
        assert "not as a run of" in classify("photos", out="r.csv", status=1).stderr
    assert not Path("r.csv.parts").exists()


def test_a_csv_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    begin(monkeypatch, "photos", "--chunk", "2", out="r.csv")
    assert not Path("r.csv").exists()
    assert json.loads(classify("photos", "--json", out="r.csv").stdout)["here"] == 3
    assert len(cells()) == 5


def test_a_csv_is_whole_only_with_what_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    take = merged._take_name

    def once(path: Path, name: Path) -> None:
        if name.suffix == ".json":
            raise BulkError("a power cut")
        take(path, name)

    with monkeypatch.context() as patched:
        patched.setattr(merged, "_take_name", once)
        classify("photos", out="r.csv", status=1)
    assert Path("r.csv").exists()
    assert json.loads(classify("photos", "--json", out="r.csv").stdout)["here"] == 0
    assert "whole already" in classify("photos", out="r.csv").stderr
    assert sorted(path.name for path in Path().glob("r.*")) == ["r.csv", "r.csv.superbin.json"]


def test_a_csv_among_the_photos_is_none_of_them(photos: Path) -> None:
    """Nor are the parts of another run."""
    write_photos(photos / "other.csv.parts", [1])
    classify("photos", out="photos/r.csv")
    assert "whole already" in classify("photos", out="photos/r.csv").stderr
    classify("photos")
    assert len(rows()) == 5
