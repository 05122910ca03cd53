"""What reviewers said before, over HTTP, and what kinds are known as."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.asking import problem
from tests.integration.reviewing import CLIENT, KEY, Reviewing, reviewing


@pytest.fixture(scope="module")
def held(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewing]:
    with reviewing(models_dir, tmp_path_factory.mktemp("verdicts")) as found:
        yield found


def asking(held: Reviewing, reviewer: str = "anna") -> httpx.Client:
    headers = {"X-API-Key": KEY, "X-Reviewer": reviewer}
    return httpx.Client(base_url=f"{held.server.url}/v1/review/", headers=headers, timeout=30)


def test_what_a_reviewer_said_is_there_newest_first_until_it_is_taken_back(held: Reviewing) -> None:
    ids = held.refill(4)
    with asking(held) as anna, asking(held, "bert") as bert:
        for photo, word in zip(ids[:3], ("organic", None, "residual"), strict=True):
            said = {"superclass": word, **({"subclass": "tea"} if word == "organic" else {})}
            assert anna.put(f"photos/{photo}/verdict", json=said).status_code == 204
        bert.put(f"photos/{ids[0]}/verdict", json={"superclass": "hazardous"})
        found = anna.get("verdicts").json()["verdicts"]
        assert [(one["task"]["id"], one["superclass"], one["subclass"]) for one in found] == [
            (ids[2], "residual", None),
            (ids[1], None, None),
            (ids[0], "organic", "tea"),
        ]
        assert found[0]["path"] in exported(anna)
        assert [one["task"]["id"] for one in anna.get("verdicts?limit=1").json()["verdicts"]] == [
            ids[2]
        ]
        anna.delete(f"photos/{ids[2]}/verdict")
        anna.put(f"photos/{ids[0]}/verdict", json={"superclass": "recyclable"})
        found = anna.get("verdicts").json()["verdicts"]
        assert [(one["task"]["id"], one["superclass"]) for one in found] == [
            (ids[0], "recyclable"),
            (ids[1], None),
        ]
        assert len(bert.get("verdicts").json()["verdicts"]) == 1
        problem(anna.get("verdicts?limit=0"), 422, "unprocessable_entity")


def test_a_line_of_an_export_leads_to_its_photo_and_to_who_said_it(held: Reviewing) -> None:
    first, _ = held.refill(2)
    with asking(held) as anna, asking(held, "bert") as bert:
        correct(held, "request-0", "organic", subclass="tea")
        (path,) = exported(anna)
        found = look_up(anna, path)
        assert found["task"]["id"] == first
        assert found["task"]["guess"]["model"] == "tiny/1"
        assert (found["path"], found["request_id"], found["photo"]) == (path, "request-0", 0)
        assert found["settled"] == {"superclass": "organic", "subclass": "tea", "no_refuse": False}
        (vote,) = found["votes"]
        assert vote.pop("at") >= found["task"]["kept_at"]
        assert vote == {
            "reviewer": "client:kiosk",
            "kind": "feedback",
            "superclass": "organic",
            "subclass": "tea",
            "bin": None,
            "no_refuse": False,
        }
        correct(held, found["request_id"], "residual", photo=found["photo"])
        assert said(look_up(anna, path)) == [("client:kiosk", "residual")]

        anna.put(f"photos/{first}/verdict", json={"superclass": "hazardous"})
        found = look_up(anna, path)
        assert said(found) == [("client:kiosk", "residual"), ("anna", "hazardous")]
        assert [vote["kind"] for vote in found["votes"]] == ["feedback", "review"]
        assert found["settled"] is None
        assert not exported(anna)
        bert.put(f"photos/{first}/verdict", json={"superclass": "hazardous"})
        found = look_up(anna, path)
        assert found["settled"]["superclass"] == "hazardous"
        assert exported(anna) == [path]
        bert.delete(f"photos/{first}/verdict")
        assert ("bert", "hazardous") not in said(look_up(anna, path))


def test_a_photo_of_no_use_is_settled_without_a_superclass(held: Reviewing) -> None:
    (photo,) = held.refill(1)
    path = held.store.photo(photo).export_path
    with asking(held) as anna:
        assert look_up(anna, path)["settled"] is None
        assert look_up(anna, path)["votes"] == []
        anna.put(f"photos/{photo}/verdict", json={"superclass": None})
        nothing = {"superclass": None, "subclass": None, "no_refuse": False}
        assert look_up(anna, path)["settled"] == nothing


def test_a_path_that_is_none_and_one_of_no_photo_are_told_apart(held: Reviewing) -> None:
    (photo,) = held.refill(1)
    path = held.store.photo(photo).export_path
    with asking(held) as anna:
        gone = f"photos/{'0' * 64}.jpg"
        told = problem(anna.get("photos", params={"path": gone}), 404, "photo_gone")
        assert "0" * 64 in told["detail"]
        for stray in (path.removeprefix("photos/"), path.upper(), f"{path}\n", f"x/{path}", ""):
            told = problem(anna.get("photos", params={"path": stray}), 422, "unprocessable_entity")
            assert "expected a string that should match pattern '^photos/" in told["detail"]
        problem(anna.get("photos"), 422, "unprocessable_entity")
    url = f"{held.server.url}/v1/review/photos"
    unnamed = httpx.get(url, params={"path": path}, headers={"X-API-Key": KEY})
    assert unnamed.json()["task"]["id"] == photo
    client = httpx.get(url, params={"path": path}, headers={"X-API-Key": CLIENT})
    problem(client, 403, "reviewer_only")
    problem(httpx.get(url, params={"path": path}), 401, "key_refused")


def correct(held: Reviewing, request_id: str, superclass: str, **words: object) -> None:
    said = {"request_id": request_id, "superclass": superclass} | words
    url, headers = f"{held.server.url}/v1/feedback", {"X-API-Key": CLIENT}
    assert httpx.post(url, json=said, headers=headers).status_code == 200


def exported(client: httpx.Client) -> list[str]:
    lines = csv.DictReader(io.StringIO(client.get("export.csv").text))
    return [row["path"] for row in lines]


def look_up(client: httpx.Client, path: str) -> dict[str, Any]:
    response = client.get("photos", params={"path": path})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def said(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(vote["reviewer"], vote["superclass"]) for vote in found["votes"]]


def test_the_queue_tells_under_which_superclasses_the_banks_have_a_kind(held: Reviewing) -> None:
    held.refill(1)
    with asking(held) as client:
        kinds = client.post("queue", json={}).json()["kind_superclasses"]
    assert kinds["battery"] == ["hazardous"]
    assert kinds["food"] == ["organic"]


def test_the_log_says_where_photos_are_kept(held: Reviewing) -> None:
    (told,) = [
        line for line in held.server.log_lines() if line["event"] == "photos are kept for review"
    ]
    assert told["photos"] == str(held.photos)
    assert told["database"].endswith("review.db")
    assert told["there"] == 0
