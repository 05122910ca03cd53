"""What clients say of photos that were answered, and of those that are kept."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.keys import digest_of
from service.review.opening import open_store
from tests.integration.asking import JPEG, PHOTO, files, problem
from tests.integration.reviewing import kept, review_settings
from tests.integration.server import Server, running, until
from tests.photo_factory import noise
from tests.tiny_bundle import SUPERCLASSES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("review")


@pytest.fixture(scope="module")
def reviewing(models_dir: Path, folder: Path) -> Iterator[Server]:
    with running(models_dir, feedback_rate_s=0, **review_settings(folder)) as server:
        yield server


@pytest.fixture(scope="module")
def asking(reviewing: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=reviewing.url, timeout=30) as client:
        yield client


def correct(asking: httpx.Client, key: str | None = None, **words: Any) -> httpx.Response:
    return asking.post("/v1/feedback", json=words, headers={"X-API-Key": key} if key else {})


def metric(asking: httpx.Client, name: str) -> float:
    lines = asking.get("/metrics").text.splitlines()
    (line,) = [one for one in lines if one.startswith(f"{name} ")]
    return float(line.removeprefix(name))


def test_an_answer_says_that_its_photo_was_put_aside_and_feedback_finds_it(
    asking: httpx.Client, folder: Path
) -> None:
    query = "site=single-stream-line&line=1&camera=left"
    answer = asking.post(f"/v1/classify?{query}", files=files(noise(1), b"x", noise(2))).json()
    assert answer["results"][0]["review"] in ("uncertain", "contested", "random")
    assert "review" not in answer["results"][1]
    until(lambda: kept(asking).get("kept", 0) >= 2, "both photos to be kept")
    assert metric(asking, "superbin_review_stored_photos") >= 1
    assert metric(asking, "superbin_review_queue_photos") >= 1
    response = correct(
        asking, request_id=answer["request_id"], photo=2, superclass="organic", subclass="apple"
    )
    assert response.json() == {
        "request_id": answer["request_id"],
        "photo": 2,
        "superclass": "organic",
        "no_refuse": False,
        "recorded": True,
        "kept": True,
        "settled": True,
        "known": True,
        "known_kind": False,
        "near_kinds": [],
        "kind_superclasses": [],
        "detail": "it counts as one person's review of the photo. No model and no site knows the "
        "kind 'apple', which is taken as a new one",
    }
    other = correct(asking, request_id=answer["request_id"], photo=1, superclass="organic")
    assert other.status_code == 202
    assert (other.json()["recorded"], other.json()["known"]) == (False, True)
    assert "other photos of the request are kept" in other.json()["detail"]
    with open_store(f"sqlite:///{folder}/review.db", str(folder / "photos")) as store:
        (reviewed,) = [one for one in store.reviewed() if one.subclass == "apple"]
        photo = reviewed.photo
        assert (photo.request_id, photo.position) == (answer["request_id"], 2)
        assert (photo.site, photo.line, photo.camera) == ("single-stream-line", "1", "left")
        assert photo.superclass == answer["results"][2]["superclass"]
        assert photo.probabilities == answer["results"][2]["probabilities"]
        assert photo.model == "tiny/1"


def test_feedback_says_that_its_photo_waits_for_another_person(
    models_dir: Path, tmp_path: Path
) -> None:
    settings = review_settings(tmp_path) | {"review_double_share": 1.0}
    with (
        running(models_dir, **settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        answer = client.post("/v1/classify", files=files(noise(1))).json()
        until(lambda: kept(client).get("kept", 0) == 1, "the photo to be kept")
        told = correct(client, request_id=answer["request_id"], superclass="organic").json()
        assert (told["recorded"], told["kept"], told["settled"]) == (True, True, False)
        assert told["detail"] == (
            "it counts as one person's review of the photo; it waits for another person's, and "
            "nothing is learned from it before"
        )


def test_feedback_on_a_request_of_which_nothing_is_kept_says_so(asking: httpx.Client) -> None:
    response = correct(asking, request_id="never-seen", superclass="organic")
    assert response.status_code == 202
    answer = response.json()
    assert (answer["recorded"], answer["kept"], answer["known"]) == (False, False, False)
    assert "nothing is kept of photo 0 of request 'never-seen'" in answer["detail"]
    assert "up to 30 days" in answer["detail"]
    assert 'superbin_feedback_total{outcome="alone"}' in asking.get("/metrics").text


def test_feedback_does_not_count_for_a_photo_that_comes_later_with_its_id(
    asking: httpx.Client, folder: Path
) -> None:
    assert correct(asking, request_id="later", superclass="organic").json()["recorded"] is False
    with closing(sqlite3.connect(folder / "review.db")) as database:  # a minute ago
        database.execute("UPDATE review_feedback SET at = at - 60 WHERE request_id = 'later'")
        database.commit()
    before = kept(asking).get("kept", 0)
    asking.post("/v1/classify", files=files(noise(41)), headers={"X-Request-ID": "later"})
    until(lambda: kept(asking).get("kept", 0) > before, "the photo to be kept")
    with open_store(f"sqlite:///{folder}/review.db", str(folder / "photos")) as store:
        assert "later" in {photo.request_id for photo in store.photos()}
        assert "later" not in {one.photo.request_id for one in store.reviewed()}


@pytest.mark.parametrize(
    ("kind", "known", "near"),
    [
        ("Battery", True, []),
        ("batery", False, ["battery"]),
        ("newspaper", True, []),  # by the rules of a site that is shipped
        ("glow stick", False, []),
        (None, None, []),
    ],
)
def test_feedback_tells_whether_the_kind_is_known(
    asking: httpx.Client, kind: str | None, known: bool | None, near: list[str]
) -> None:
    answer = correct(asking, request_id="r", superclass="hazardous", subclass=kind).json()
    assert (answer["known_kind"], answer["near_kinds"]) == (known, near)
    assert ("should it be battery" in answer["detail"]) == bool(near)


def test_feedback_tells_that_the_bank_has_the_kind_under_another_superclass(
    asking: httpx.Client,
) -> None:
    answer = correct(asking, request_id="r", superclass="organic", subclass="Battery").json()
    assert (answer["known_kind"], answer["kind_superclasses"]) == (True, ["hazardous"])
    assert "the kind 'battery' as hazardous (" in answer["detail"]
    assert "and not as organic" in answer["detail"]
    right = correct(asking, request_id="r", superclass="hazardous", subclass="Battery").json()
    assert right["kind_superclasses"] == []
    assert "The bank has" not in right["detail"]


@pytest.mark.parametrize(
    "kind", ["../../x", "=1+1", "+1", "-1", "@x", "a\u202eb", "a\\b", " =1", "_", " "]
)
def test_what_is_no_kind_is_refused_with_what_is_one(asking: httpx.Client, kind: str) -> None:
    response = correct(asking, request_id="r", superclass="organic", subclass=kind)
    told = problem(response, 422, "malformed_review")["detail"]
    assert told.startswith("subclass: expected ")


@pytest.mark.parametrize(
    "kind", ["Glühbirne", "बैटरी", "電池", "7-Eleven cup", "box (greasy), flat"]
)
def test_kinds_of_any_script_are_taken(asking: httpx.Client, kind: str) -> None:
    response = correct(asking, request_id="r", superclass="organic", subclass=kind)
    assert response.status_code == 202
    assert response.json()["known_kind"] is False


def test_a_new_kind_is_near_one_that_was_told_of_a_photo_before(asking: httpx.Client) -> None:
    answer = asking.post("/v1/classify", files=files(noise(31))).json()
    until(lambda: correct_kept(asking, answer["request_id"], "stroopwafel"), "the photo")
    for kind in ("stropwafel", "Stroopwafel "):
        told = correct(asking, request_id="r", superclass="organic", subclass=kind).json()
        assert (told["known_kind"], told["near_kinds"]) == (False, ["stroopwafel"])


def correct_kept(asking: httpx.Client, request_id: str, kind: str) -> bool:
    response = correct(asking, request_id=request_id, superclass="organic", subclass=kind)
    return response.status_code == 200


def test_what_is_missing_is_told_in_words(asking: httpx.Client) -> None:
    told = [
        problem(correct(asking, **words), 422, "malformed_review")["detail"]
        for words in ({"request_id": "r"}, {"request_id": 5, "superclass": "x", "photo": "two"})
    ]
    known = ", ".join(SUPERCLASSES)
    assert told[0] == f"superclass: expected one of {known}, or no_refuse, got nothing"
    assert told[1].startswith(
        "request_id: expected a valid string, got 5; photo: expected a whole number"
    )
    stray = correct(asking, request_id="r", superclass="organic", kind="can")
    told = [problem(stray, 422, "malformed_review")["detail"]]
    assert told == [
        "kind: expected no such field but request_id, photo, superclass, subclass, item, no_refuse"
    ]


def test_an_unknown_superclass_is_refused_with_the_known_ones(asking: httpx.Client) -> None:
    response = correct(asking, request_id="r", superclass="paper")
    found = problem(response, 422, "unknown_superclass")
    assert f"expected one of {', '.join(SUPERCLASSES)}, got 'paper'" in found["detail"]


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"request_id": "r"},
        {"request_id": "", "superclass": "organic"},
        {"request_id": "r", "superclass": "organic", "photo": -1},
        {"request_id": "r", "superclass": "organic", "photo": True},
        {"request_id": "r", "superclass": "organic", "photo": "1"},
        {"request_id": "r", "superclass": "organic", "stray": 1},
        {"request_id": "r", "superclass": "organic", "subclass": "x" * 65},
        {"request_id": "r", "superclass": "organic", "item": "a\nb"},
        {"request_id": "r", "superclass": "organic", "item": "a\x00b"},
    ],
)
def test_words_are_checked_and_bounded(asking: httpx.Client, words: dict[str, Any]) -> None:
    problem(correct(asking, **words), 422, "malformed_review")


def test_a_body_that_is_long_or_no_json_is_refused(asking: httpx.Client) -> None:
    response = correct(asking, request_id="r", superclass="organic", item="x" * 5000)
    problem(response, 413, "request_too_large")
    problem(asking.post("/v1/feedback", content=PHOTO, headers=JPEG), 415, "unsupported_media_type")
    headers = {"content-type": "application/json"}
    problem(asking.post("/v1/feedback", content=b"{", headers=headers), 422, "malformed_review")


def test_where_nothing_is_kept_there_is_no_feedback(client: httpx.Client) -> None:
    problem(correct(client, request_id="r", superclass="organic"), 404, "review_off")
    answer = client.post("/v1/classify", content=PHOTO, headers=JPEG).json()
    assert "review" not in answer["results"][0]


def test_feedback_needs_the_key_that_classifying_needs_and_has_a_rate(
    models_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.toml").write_text(f'[clients]\nkiosk = "{digest_of("sesame")}"\n')
    settings = review_settings(tmp_path) | {"keys_file": tmp_path / "keys.toml"}
    with (
        running(models_dir, feedback_rate_s=0.001, **settings) as server,
        httpx.Client(base_url=server.url) as asking,
    ):
        words = {"request_id": "r", "superclass": "organic"}
        problem(correct(asking, **words), 401, "key_refused")
        asking.headers["X-API-Key"] = "sesame"
        assert correct(asking, **words).status_code == 202
        response = correct(asking, **words)
        problem(response, 429, "rate_limited")
        assert int(response.headers["retry-after"]) > 0


def test_feedback_counts_for_photos_that_came_with_the_same_key_or_is_an_admins(
    models_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.toml").write_text(
        f'[clients]\nline = "{digest_of("a")}"\nother = "{digest_of("b")}"\n'
        f'[admins]\nops = "{digest_of("c")}"\n'
    )
    settings = review_settings(tmp_path) | {"keys_file": tmp_path / "keys.toml"}
    words = {"request_id": "belt-1", "superclass": "hazardous"}
    with (
        running(models_dir, feedback_rate_s=0, **settings) as server,
        httpx.Client(base_url=server.url, timeout=30) as asking,
    ):

        def say(key: str) -> dict[str, Any]:
            told: dict[str, Any] = correct(asking, key, **words).json()
            return told

        assert not say("b")["recorded"]  # before its photo
        own = {"X-API-Key": "a", "X-Request-ID": "belt-1"}
        asking.post("/v1/classify", files=files(noise(1)), headers=own)
        until(lambda: kept(asking).get("kept", 0) == 1, "the photo to be kept")
        stranger = say("b")
        assert (stranger["recorded"], stranger["known"]) == (False, False)
        assert (
            "nothing is kept of photo 0 of request 'belt-1' that other sent" in (stranger["detail"])
        )
        with open_store(f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos")) as store:
            assert list(store.reviewed()) == []
            assert all(say(key)["recorded"] for key in ("a", "c"))
            (reviewed,) = store.reviewed()
            assert [one.reviewer for one in reviewed.votes] == ["client:line", "client:ops"]
