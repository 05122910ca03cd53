"""Reviewing over HTTP, and what comes out of it."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from PIL import Image

from service.cli import main
from service.keys import digest_of
from service.review import schema
from service.review.opening import open_store
from service.review.records import Rules, Verdict
from tests.integration.asking import JPEG, PHOTO, problem
from tests.integration.reviewing import CLIENT, KEY, Reviewing, reviewing
from tests.integration.server import running
from tests.photo_factory import noise
from tests.review_stores import new_photo
from tests.tiny_bundle import SUPERCLASSES
from tests.tiny_site import write_site
from training.data.photos import read_photos


@pytest.fixture(scope="module")
def held(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewing]:
    with reviewing(models_dir, tmp_path_factory.mktemp("api"), review_export_photos=5) as found:
        yield found


@pytest.fixture(scope="module")
def sited(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewing]:
    folder = tmp_path_factory.mktemp("sited")
    (folder / "sites").mkdir()
    write_site(folder / "sites", {"items": {"hat": "rest"}})
    with reviewing(models_dir, folder, sites_dir=folder / "sites") as found:
        yield found


def asking(held: Reviewing, reviewer: str = "anna", key: str = KEY) -> httpx.Client:
    headers = {"X-API-Key": key, "X-Reviewer": reviewer}
    return httpx.Client(base_url=f"{held.server.url}/v1/review/", headers=headers, timeout=30)


def queue(client: httpx.Client, **words: Any) -> dict[str, Any]:
    response = client.post("queue", json=words)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_the_queue_gives_photos_choices_and_progress(held: Reviewing) -> None:
    ids = held.refill(3)
    with asking(held) as client:
        found = queue(client, limit=2)
        assert [task["id"] for task in found["tasks"]] == ids[:2]
        task = found["tasks"][0]
        assert (task["site"], task["line"], task["camera"]) == ("hall-2", "1", "left")
        assert task["guess"]["superclass"] == "organic"
        assert task["guess"]["references"][0]["subclass"] == "food"
        choices = [(one["key"], one["superclass"]) for one in found["choices"]]
        assert choices == [*zip("1234", SUPERCLASSES, strict=True), ("0", None)]
        assert found["progress"]["left"] == 3
        photo = client.get(f"photos/{ids[0]}")
        assert photo.headers["content-type"] == "image/jpeg"
        assert "no-store" in photo.headers["cache-control"]
        assert Image.open(io.BytesIO(photo.content)).size == (task["width"], task["height"])


def test_a_verdict_is_saved_replaced_and_taken_back(held: Reviewing) -> None:
    (photo,) = held.refill(1)
    with asking(held) as client:
        for superclass in ("organic", "organic", "residual"):
            said = client.put(f"photos/{photo}/verdict", json={"superclass": superclass})
            assert said.status_code == 204
        assert held.labels() == {photo: "residual"}
        assert client.delete(f"photos/{photo}/verdict").json()["id"] == photo
        assert held.labels() == {}
        assert client.put(f"photos/{photo}/skip").status_code == 204
        assert queue(client)["tasks"] == []
        assert queue(client, skipped=True)["tasks"][0]["id"] == photo
        assert queue(client, skipped=True, after=photo)["tasks"] == []


def test_two_reviewers_never_have_the_same_photo(held: Reviewing) -> None:
    held.refill(4)
    with asking(held, "anna") as anna, asking(held, "bert") as bert:
        hers = {task["id"] for task in queue(anna, limit=3)["tasks"]}
        his = {task["id"] for task in queue(bert, limit=3)["tasks"]}
        assert (len(hers), len(his)) == (3, 1)
        assert not hers & his


def test_bad_words_are_told(held: Reviewing) -> None:
    (photo,) = held.refill(1)
    with asking(held) as client:
        wrong = client.put(f"photos/{photo}/verdict", json={"superclass": "paper"})
        assert "expected one of recyclable" in problem(wrong, 422, "unknown_superclass")["detail"]
        gone = client.put(f"photos/{photo + 99}/verdict", json={"superclass": "organic"})
        problem(gone, 404, "photo_gone")
        problem(client.get(f"photos/{photo + 99}"), 404, "photo_gone")
        problem(client.post("queue", json={"limit": 1000}), 422, "malformed_review")
        problem(client.put(f"photos/{photo}/verdict", json={}), 422, "malformed_review")


def test_a_bin_has_to_be_the_sites_and_the_superclasss(sited: Reviewing) -> None:
    sited.refill(0)
    photo, homeless = (
        sited.store.add(new_photo(seed, site=site)).id for seed, site in enumerate(["tiny", None])
    )
    with asking(sited) as client:

        def say(photo: int, **words: Any) -> httpx.Response:
            return client.put(f"photos/{photo}/verdict", json=words)

        for words in ({"bin": "paper"}, {"bin": "mixed", "superclass": "organic"}):
            refused = say(photo, **{"superclass": "recyclable"} | words)
            told = problem(refused, 422, "unfit_bin")["detail"]
            assert "mixed (recyclable), rest (organic or residual), manual (" in told
            assert f"got '{words['bin']}'" in told
        told = problem(say(homeless, superclass="organic", bin="rest"), 422, "unfit_bin")["detail"]
        assert "the photo is of no site" in told
        problem(say(photo + 99, superclass="organic", bin="rest"), 404, "photo_gone")
        assert sited.labels() == {}
        assert say(photo, superclass=None, bin="rest").status_code == 204
        assert say(photo, superclass="organic", bin="rest").status_code == 204
    assert sited.labels() == {photo: "organic"}


def test_a_kind_that_was_typed_is_known_or_has_near_ones(sited: Reviewing) -> None:
    with asking(sited) as client:
        said = [
            client.get("kind", params={"kind": one}).json()
            for one in ("Battery", "batery", "hat", "=1+1")
        ]
    assert said == [
        {"kind": "battery", "known": True, "near": [], "fit": True, "superclasses": ["hazardous"]},
        {"kind": "batery", "known": False, "near": ["battery"], "fit": True, "superclasses": []},
        # by the site's rules
        {"kind": "hat", "known": True, "near": [], "fit": True, "superclasses": []},
        {"kind": "=1+1", "known": False, "near": [], "fit": False, "superclasses": []},
    ]


def test_the_key_comes_before_the_name(held: Reviewing) -> None:
    url = f"{held.server.url}/v1/review/queue"
    for name in ("", "a  b", "anna/ben", "x" * 65):
        nobody = httpx.post(url, json={}, headers={"X-Reviewer": name})
        problem(nobody, 401, "key_refused")
        named = httpx.post(url, json={}, headers={"X-Reviewer": name, "X-API-Key": KEY})
        told = problem(named, 422, "reviewer_nameless")["detail"]
        assert "letters (A to Z), digits, dots, dashes and underscores" in told
    assert httpx.post(url, json={}, headers={"X-API-Key": KEY}).status_code == 200
    with asking(held, reviewer="Anna Huber") as client:
        assert client.post("queue", json={}).status_code == 200


def test_a_key_for_named_people_is_for_nobody_else(models_dir: Path, tmp_path: Path) -> None:
    rooms = "".join(f'reviewers."{one}" = "{digest_of(one)}"\n' for one in ("room", "hers", "any"))
    people = 'people."room" = ["anna", "ben"]\npeople."hers" = ["anna"]\n'
    with reviewing(models_dir, tmp_path, keys=rooms + people) as held:
        (photo,) = held.refill(1)

        def skips(key: str, name: str | None) -> httpx.Response:
            url = f"{held.server.url}/v1/review/photos/{photo}/skip"
            named = {} if name is None else {"X-Reviewer": name}
            return httpx.put(url, headers={"X-API-Key": key} | named)

        for key, name in (("room", "ben"), ("hers", "anna"), ("hers", None), ("any", "carl")):
            assert skips(key, name).status_code == 204
        told = problem(skips("room", "Ben"), 403, "reviewer_unlisted")["detail"]
        assert "expected one of anna, ben, whom the key room is for, got 'Ben'" in told
        told = problem(skips("any", "anna"), 403, "reviewer_unlisted")["detail"]
        assert "got 'anna', whom the key room is for" in told
        told = problem(skips("room", None), 422, "reviewer_nameless")["detail"]
        assert "expected one of anna, ben, whom the key room is for, got nothing" in told
        assert skips("any", None).status_code == 204
        with held.store._database.read() as connection:
            names = connection.execute(sa.select(schema.skips.c.reviewer)).scalars().all()
        assert set(names) == {"ben", "anna", "carl", "any"}


def test_kept_photos_are_for_reviewers_and_not_for_clients(held: Reviewing) -> None:
    (photo,) = held.refill(1)
    paths = [f"photos/{photo}", f"photos/{photo}/thumbnail", f"photos/{photo}/similar"]
    with asking(held, key=CLIENT) as client:
        for path in (*paths, "export.csv", "export.zip"):
            told = problem(client.get(path), 403, "reviewer_only")["detail"]
            assert "expected a reviewer's key" in told
            assert "of the client kiosk" in told
        problem(client.post("queue", json={}), 403, "reviewer_only")
    with httpx.Client(base_url=held.server.url, headers={"x-api-key": CLIENT}) as client:
        assert client.post("/v1/classify", content=PHOTO, headers=JPEG).status_code == 200
        told = {"request_id": "request-0", "superclass": "organic"}
        assert client.post("/v1/feedback", json=told).status_code == 200
        client.headers["x-api-key"] = KEY  # opens review, and nothing else
        problem(client.post("/v1/classify", content=PHOTO, headers=JPEG), 401, "key_refused")


def test_where_no_reviewer_is_named_only_admins_see_kept_photos(
    models_dir: Path, tmp_path: Path
) -> None:
    settings = {"review_url": f"sqlite:///{tmp_path}/r.db", "review_photos": tmp_path / "photos"}
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[clients]\nkiosk = "{digest_of(CLIENT)}"\n')
    with running(models_dir, keys_file=keys, **settings) as server:
        url = f"{server.url}/v1/review/export.csv"
        answer = httpx.get(url, headers={"X-API-Key": CLIENT})
        assert "superbin key NAME --reviewer" in problem(answer, 403, "review_needs_keys")["detail"]


def test_a_thumbnail_is_small(held: Reviewing) -> None:
    (photo,) = held.refill(1)
    held.store.add(new_photo(1, data=noise(1, 900, 300)))
    with asking(held) as client:
        for one, size in ((photo, (80, 60)), (photo + 1, (256, 85))):
            small = client.get(f"photos/{one}/thumbnail")
            assert Image.open(io.BytesIO(small.content)).size == size
            assert "no-store" in small.headers["cache-control"]
        problem(client.get(f"photos/{photo + 99}/thumbnail"), 404, "photo_gone")


def test_reviewed_photos_that_are_like_one_come_with_what_people_said(held: Reviewing) -> None:
    first, second = held.refill(2)
    with asking(held) as client:
        assert client.get(f"photos/{first}/similar").json() == {"photos": []}
        client.put(f"photos/{second}/verdict", json={"superclass": "organic", "subclass": "tea"})
        (found,) = client.get(f"photos/{first}/similar").json()["photos"]
        assert found == {
            "id": second,
            "similarity": 1.0,
            "superclass": "organic",
            "subclass": "tea",
        }


def test_photos_of_a_site_come_with_its_bins_in_the_readers_language(sited: Reviewing) -> None:
    sited.refill(0)
    for seed, site in enumerate(["tiny", "gone", None]):
        sited.store.add(new_photo(seed, site=site))
    with asking(sited) as client:
        client.headers["accept-language"] = "de-CH, en;q=0.5"
        found = queue(client)
        (site,) = found["sites"].values()
        assert (site["site"], site["language"], site["name"]) == ("tiny", "de", "Zwei Tonnen")
        bins = [(one["key"], one["bin"], one["label"]) for one in site["bins"]]
        assert bins == [
            ("1", "mixed", "Wertstoff"),
            ("2", "rest", "Restmüll"),
            ("9", "manual", "Nachfragen"),
        ]
        photo = found["tasks"][0]["id"]
        words = {"superclass": "recyclable", "bin": "mixed"}
        assert client.put(f"photos/{photo}/verdict", json=words).status_code == 204
    (reviewed,) = sited.store.reviewed()
    assert reviewed.votes[0].verdict == Verdict("recyclable", bin="mixed")


def test_kept_photos_are_for_holders_of_a_key_alone(
    held: Reviewing, models_dir: Path, tmp_path: Path
) -> None:
    (photo,) = held.refill(1)
    with asking(held, key="wrong") as client:
        for answer in (client.get(f"photos/{photo}"), client.get("export.csv")):
            problem(answer, 401, "key_refused")
    settings = {"review_url": f"sqlite:///{tmp_path}/r.db", "review_photos": tmp_path / "photos"}
    with running(models_dir, **settings) as server:
        answer = httpx.get(f"{server.url}/v1/review/export.csv")
        assert "superbin key" in problem(answer, 403, "review_needs_keys")["detail"]
    (tmp_path / "keys.toml").write_text(f'[admins]\nops = "{digest_of("open")}"\n')
    with running(models_dir, keys_file=tmp_path / "keys.toml", **settings) as server:
        url = f"{server.url}/v1/review/export.csv"
        problem(httpx.get(url), 401, "key_refused")
        assert httpx.get(url, headers={"X-API-Key": "open"}).status_code == 200


def test_where_nothing_is_kept_there_is_no_review(client: httpx.Client) -> None:
    problem(client.get("/v1/review/export.csv"), 404, "review_off")
    problem(client.get("/review"), 404, "review_off")
    assert "nothing is kept" in client.get("/").text


def test_the_page_does_not_promise_more_than_is_kept(held: Reviewing) -> None:
    page = httpx.get(held.server.url).text
    assert "nothing is kept" not in page
    assert "Some are kept" in page
    assert 'href="review"' in page


def test_exports_are_bounded_and_hold_the_newest(held: Reviewing) -> None:
    ids = held.refill(7)
    with asking(held) as client:
        for photo in ids:
            client.put(f"photos/{photo}/verdict", json={"superclass": "organic", "subclass": "tea"})
        rows = list(csv.DictReader(io.StringIO(client.get("export.csv").text)))
        answer = client.get("export.zip")
    newest = [held.store.photo(photo) for photo in ids[-5:]]
    assert [row["path"] for row in rows] == [f"photos/{one.sha256}.jpg" for one in newest]
    assert {(row["superclass"], row["subclass"], row["source"]) for row in rows} == {
        ("organic", "tea", "hall-2")
    }
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.csv").decode().splitlines()[1:] == [
            ",".join(row.values()) for row in rows
        ]
        assert archive.read(rows[0]["path"]) == newest[0].load()
        assert "missing.csv" not in archive.namelist()


def test_an_export_lists_photos_whose_files_are_missing(held: Reviewing) -> None:
    first, second = held.refill(2)
    with asking(held) as client:
        for photo in (first, second):
            client.put(f"photos/{photo}/verdict", json={"superclass": "organic"})
        gone = f"photos/{held.store.photo(first).sha256}.jpg"
        next(held.photos.rglob(gone.removeprefix("photos/"))).unlink()
        answer = client.get("export.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert gone not in archive.namelist()
        assert gone not in archive.read("labels.csv").decode()
        assert archive.read("missing.csv").decode().splitlines()[1].startswith(gone)


def test_the_command_exports_what_training_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, photos, out = f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos"), tmp_path / "out"
    with open_store(url, photos, Rules(double_share=0.0)) as store:
        for seed in range(60):
            photo = store.add(new_photo(seed)).id
            for reviewer in ("anna", "bert"):
                said = Verdict(SUPERCLASSES[seed % 4], "kind, with a comma")
                store.review(photo, reviewer, said)
        store.review(store.add(new_photo(99)).id, "anna", Verdict(None))
        store.review(store.add(new_photo(100)).id, "anna", Verdict("organic"))
        store.feedback("request-100", 0, "client:kiosk", Verdict("residual"))
        store.add(new_photo(101))
    with open_store(url, photos, Rules(double_share=1.0)) as store:
        store.review(store.add(new_photo(102)).id, "anna", Verdict("organic"))
    given = ["review", "export", url, "--photos", photos, "--out", str(out), "--val-share", "0.3"]
    for _ in range(2):  # the second time everything is there already
        with pytest.raises(SystemExit) as ended:
            main(given)
        assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "60 photos (" in told
    assert "left out: 1 on which people do not agree, 1 of no use, 1 that one person" in told
    assert "reviewed and that wait for a second, 1 that nobody reviewed" in told
    assert "1 of all are disputed by feedback" in told
    found = read_photos(out)
    assert len(found.photos) == 60
    assert {one.subclass for one in found.photos} == {"kind, with a comma"}
    with open_store(url, photos) as store:
        held_out = {f"photos/{one.photo.sha256}.jpg" for one in store.reviewed() if one.held_out}
    assert {one.path for one in found.split("test")} == held_out
    assert held_out
    assert found.split("val")


def test_reviewed_photos_that_are_missing_are_told_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, photos, out = f"sqlite:///{tmp_path}/review.db", tmp_path / "photos", tmp_path / "out"
    with open_store(url, str(photos), Rules(double_share=0.0)) as store:
        for seed in range(4):
            store.review(store.add(new_photo(seed)).id, "anna", Verdict("organic"))
    given = ["review", "export", url, "--photos", str(photos), "--out", str(out)]

    def export() -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(given)
        told = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, told.out, told.err

    first, *rest = sorted(photos.rglob("*.jpg"))
    first.unlink()
    code, told, warned = export()
    assert code == 0
    assert told.startswith("3 photos")
    assert f"1 of the reviewed photos left out, since their files are missing in {photos}" in warned
    assert (out / "labels.csv").read_text().count(".jpg,") == 3
    before = (out / "labels.csv").read_text()
    for one in (*rest, *(out / "photos").iterdir()):
        one.unlink()
    code, told, warned = export()
    assert code == 1
    assert f"{url} lists 4 reviewed photos, and {photos} has the file of none of them" in warned
    assert (out / "labels.csv").read_text() == before
    photos.rename(tmp_path / "away")
    code, told, warned = export()
    assert code == 1
    assert f"expected photos in {photos}, and there is nothing" in warned
    assert not photos.exists()


def test_a_store_that_is_none_is_told_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["review", "export", "nonsense", "--photos", str(tmp_path), "--out", str(tmp_path)])
    assert ended.value.code == 1
    assert "expected SUPERBIN_REVIEW_URL" in capsys.readouterr().err
