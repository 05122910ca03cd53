"""Photos that show no refuse, over HTTP and in exports: kept apart from those of the bins."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cli import main
from service.review.opening import open_store
from service.review.records import Rules, Verdict
from tests.integration.asking import problem
from tests.integration.reviewing import CLIENT, KEY, Reviewing, reviewing
from tests.review_stores import new_photo
from training.data.photos import read_photos

NO_REFUSE = {"superclass": None, "no_refuse": True}


@pytest.fixture(scope="module")
def held(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewing]:
    with reviewing(models_dir, tmp_path_factory.mktemp("foreign")) as found:
        yield found


@pytest.fixture
def anna(held: Reviewing) -> Iterator[httpx.Client]:
    headers = {"X-API-Key": KEY, "X-Reviewer": "anna"}
    url = f"{held.server.url}/v1/review/"
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        yield client


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_reviewer_says_that_a_photo_is_no_refuse(held: Reviewing, anna: httpx.Client) -> None:
    cat, blur, tin, other = held.refill(4)
    found = anna.post("queue", json={"limit": 1}).json()
    assert found["no_refuse"] == {"superclass": None, "label": "no refuse", "key": "n"}
    keys = [choice["key"] for choice in found["choices"]]
    assert "n" not in keys
    assert found["choices"][-1]["label"] == "cannot be told"  # and is another word
    path = f"photos/{cat}/verdict"
    assert anna.put(path, json=NO_REFUSE | {"item": "a cat"}).status_code == 204
    anna.put(f"photos/{blur}/verdict", json={"superclass": None})
    anna.put(f"photos/{tin}/verdict", json={"superclass": "recyclable", "subclass": "can"})
    told = problem(anna.put(path, json=NO_REFUSE | {"bin": "rest"}), 422, "malformed_review")
    assert told["detail"] == "bin: expected none beside no_refuse, got 'rest'"
    said = [
        (one["superclass"], one["no_refuse"]) for one in anna.get("verdicts").json()["verdicts"]
    ]
    assert said == [("recyclable", False), (None, False), (None, True)]
    progress = anna.post("queue", json={}).json()["progress"]
    assert (progress["reviewed"], progress["no_refuse"]) == (3, 1)
    exported = held.store.photo(cat).export_path
    found = anna.get("photos", params={"path": exported}).json()
    assert found["settled"] == {"superclass": None, "subclass": None, "no_refuse": True}
    assert [vote["no_refuse"] for vote in found["votes"]] == [True]
    alike = anna.get(f"photos/{other}/similar").json()["photos"]
    assert {(one["id"], one["superclass"]) for one in alike} == {(cat, None), (tin, "recyclable")}
    anna.delete(path)
    assert anna.get("photos", params={"path": exported}).json()["settled"] is None
    assert held.store.counts().no_refuse == 0


def test_a_client_says_that_a_photo_is_no_refuse(held: Reviewing, anna: httpx.Client) -> None:
    held.refill(2)
    url, headers = f"{held.server.url}/v1/feedback", {"X-API-Key": CLIENT}

    def say(**words: Any) -> httpx.Response:
        return httpx.post(url, json={"request_id": "request-0"} | words, headers=headers)

    answer = say(no_refuse=True, item="a hand").json()
    assert (answer["superclass"], answer["no_refuse"], answer["settled"]) == (None, True, True)
    assert answer["detail"] == "it counts as one person's review of the photo"
    assert held.store.counts().no_refuse == 1
    told = problem(say(no_refuse=True, superclass="organic"), 422, "malformed_review")["detail"]
    assert told == "superclass: expected none beside no_refuse, got 'organic'"
    (photo,) = held.store.no_refuse()
    anna.put(f"photos/{photo.id}/verdict", json={"superclass": "organic"})
    progress = anna.post("queue", json={}).json()["progress"]
    assert (progress["no_refuse"], progress["unsettled"], progress["disputed"]) == (0, 1, 1)


def test_an_export_keeps_them_apart(held: Reviewing, anna: httpx.Client) -> None:
    cat, hand, tin, lost = held.refill(4)
    for photo in (cat, hand, lost):
        anna.put(f"photos/{photo}/verdict", json=NO_REFUSE)
    anna.put(f"photos/{tin}/verdict", json={"superclass": "recyclable"})
    paths = {one.id: one.export_path for one in held.store.photos()}
    next(held.photos.rglob(Path(paths[lost]).name)).unlink()
    assert [row["path"] for row in rows(anna.get("export.csv").text)] == [paths[tin]]
    with zipfile.ZipFile(io.BytesIO(anna.get("export.zip").content)) as archive:
        names = archive.namelist()
        assert {row["path"] for row in rows(archive.read("labels.csv").decode())} == {paths[tin]}
        found = rows(archive.read("no_refuse.csv").decode())
        assert [row["path"] for row in found] == [paths[cat], paths[hand]]
        assert {(row["superclass"], row["subclass"], row["source"]) for row in found} == {
            ("", "", "hall-2")
        }
        assert archive.read(paths[cat]) == held.store.photo(cat).load()
        assert [row["path"] for row in rows(archive.read("missing.csv").decode())] == [paths[lost]]
    assert names[-1] == "missing.csv"  # by which the page knows that it has one
    held.refill(1)
    with zipfile.ZipFile(io.BytesIO(anna.get("export.zip").content)) as archive:
        assert archive.namelist() == ["labels.csv"]


def test_the_command_exports_them_beside_what_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, photos, out = f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos"), tmp_path / "out"
    given = ["review", "export", url, "--photos", photos, "--out", str(out)]

    def export(*more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main([*given, *more])
        assert ended.value.code == 0
        return capsys.readouterr().out

    with open_store(url, photos, Rules(double_share=0.0)) as store:
        for seed in range(60):
            word = ("organic", "residual")[seed // 2 % 2]
            said = Verdict(None, no_refuse=True) if seed % 2 else Verdict(word)
            store.review(store.add(new_photo(seed)).id, "anna", said)
        told = export("--val-share", "0.3")
        assert "30 photos (" in told
        assert "30 photos of no refuse, which no_refuse.csv lists, there too" in told
        assert "0 of no use" in told
        foreign = {one.export_path: one.held_out for one in store.no_refuse()}
        listed = rows((out / "no_refuse.csv").read_text())
        assert {row["path"] for row in listed} == set(foreign)
        assert {row["split"] for row in listed} == {"train", "val", "test"}
        assert all((row["split"] == "test") == foreign[row["path"]] for row in listed)
        assert all((out / path).is_file() for path in foreign)
        assert not set(foreign) & {photo.path for photo in read_photos(out).photos}
        for one in list(store.no_refuse()):
            store.undo(one.id, "anna")
        assert "of no refuse" not in export()  # nor is there a list of before
        assert not (out / "no_refuse.csv").exists()
        assert not list(out.glob("*.part"))
