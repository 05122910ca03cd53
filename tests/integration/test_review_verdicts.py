"""What reviewers said before, over HTTP, and what kinds are known as."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.asking import problem
from tests.integration.reviewing import KEY, Reviewing, reviewing


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
        exported = {row["path"] for row in csv.DictReader(io.StringIO(anna.get("export.csv").text))}
        assert found[0]["path"] in exported
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
