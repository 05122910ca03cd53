"""Drift by site, line and camera, over a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.keys import digest_of
from tests.integration.asking import JPEG, files, problem
from tests.integration.server import Server, running, until
from tests.photo_factory import noise
from tests.tiny_bundle import forget_appearance, write_bundle

TAGS = {"site": "city-four-bins", "line": "1", "camera": "left"}
ADMIN = {"authorization": "Bearer ops"}
PHOTO = noise(0)
UNWATCHED = "drift is not watched"


@contextmanager
def served(folder: Path, **settings: object) -> Iterator[tuple[Server, httpx.Client]]:
    told = {"watch_s": 0, "drift_photos_s": 1e6} | settings
    with (
        running(folder, **told) as server,
        httpx.Client(base_url=server.url, timeout=30) as client,
    ):
        yield server, client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose bundle has a reference, which is of other photos than those that come."""
    write_bundle(tmp_path / "models", drift=True)
    return tmp_path / "models"


def send(client: httpx.Client, photos: int, **tags: str) -> None:
    for _ in range(0, photos, 10):
        answer = client.post("/v1/classify", params=tags, files=files(*[PHOTO] * 10))
        assert answer.status_code == 200


def places(client: httpx.Client) -> list[dict[str, Any]]:
    (model,) = client.get("/v1/drift").json()["models"]
    found: list[dict[str, Any]] = model["places"]
    return found


def series(client: httpx.Client, name: str) -> dict[tuple[str, ...], float]:
    """By model, site, line and camera."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        tuple(sample.labels[label] for label in ("model", "site", "line", "camera")): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def test_of_more_photos_than_are_needed_some_are_watched(folder: Path) -> None:
    with served(folder, drift_photos_s=0.001) as (_, client):
        send(client, 60, **TAGS)
        (place,) = places(client)
        assert place["alarm"]
        assert 10 <= place["photos"] < 60


def test_one_and_the_same_photo_again_and_again_is_told_as_drift(folder: Path) -> None:
    with served(folder) as (server, client):
        send(client, 60, **TAGS)
        send(client, 10)
        (place, untold) = places(client)
        assert {name: place[name] for name in TAGS} == TAGS
        assert place["alarm"]
        assert place["enough"]
        assert place["photos"] == 60
        assert place["since"] < place["last"] < untold["last"]
        assert place["score"] == place["moved"][0]["score"] >= 1.0
        assert place["moved"][0]["words"]
        moved = {part["part"]: part["words"] for part in place["moved"]}
        assert set(moved) == {"embedding", "confidence", "likeness", "appearance"}
        assert moved["appearance"].startswith("photos are brighter (")  # of 0
        assert len(place["confidence_shift"]) == 1
        assert (untold["site"], untold["line"], untold["camera"]) == (None, None, None)
        assert bool(untold["moved"]) == untold["enough"]  # nothing is said before that
        labels = ("tiny", "city-four-bins", "1", "left")
        scores = series(client, "superbin_drift_score")
        assert scores[labels] == pytest.approx(place["score"], abs=1e-3)
        assert series(client, "superbin_drift_photos") == {labels: 60, ("tiny", "", "", ""): 10}
        assert set(series(client, "superbin_drift_confidence_shift")) == set(scores)
        (told, _) = [line for line in server.log_lines() if line["event"] == "drift"]
        assert told["level"] == "warning"
        assert told["camera"] == "left"


def test_a_bundle_of_before_appearance_was_watched_is_served_as_before(folder: Path) -> None:
    forget_appearance(folder / "tiny" / "1")
    with served(folder) as (_, client):
        send(client, 60, **TAGS)
        (place,) = places(client)
        assert place["alarm"]
        assert {part["part"] for part in place["moved"]} == {"embedding", "confidence", "likeness"}


def test_tags_that_are_made_up_grow_nothing(folder: Path) -> None:
    with served(folder, max_tags=2) as (_, client):
        for number in range(20):
            params = {"camera": f"made-up-{number}"}
            client.post("/v1/classify", params=params, content=PHOTO, headers=JPEG)
        photos = series(client, "superbin_drift_photos")
        assert len(photos) == 3
        assert photos["tiny", "other", "other", "other"] == 18
        assert len(places(client)) == 3


def test_a_tag_that_is_no_word_is_refused(client: httpx.Client) -> None:
    params = {"camera": "no such/camera"}
    answer = client.post("/v1/classify", params=params, content=PHOTO, headers=JPEG)
    assert "no such/camera" in problem(answer, 400, "malformed_tag")["detail"]


def test_a_swap_begins_anew_and_a_bundle_without_a_reference_is_not_watched(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "keys.toml").write_text(f'[admins]\nops = "{digest_of("ops")}"\n')
    write_bundle(folder, version="2", seed=1, drift=True)
    write_bundle(folder, version="3", seed=1)
    settings = {"model": "tiny/1", "keys_file": tmp_path / "keys.toml"}
    with served(folder, **settings) as (server, client):
        send(client, 30, **TAGS)
        assert len(places(client)) == 1
        client.post("/v1/models/tiny/load?version=2", headers=ADMIN).raise_for_status()
        assert places(client) == []
        assert series(client, "superbin_drift_photos") == {}
        send(client, 10, **TAGS)
        assert series(client, "superbin_drift_photos") == {
            ("tiny", "city-four-bins", "1", "left"): 10
        }
        client.post("/v1/models/tiny/load?version=3", headers=ADMIN).raise_for_status()
        send(client, 10, **TAGS)
        (model,) = client.get("/v1/drift").json()["models"]
        assert not model["watched"]
        assert model["window"] is None
        assert series(client, "superbin_drift_score") == {}
    (told,) = [line for line in server.log_lines() if line["event"] == UNWATCHED]
    assert (told["level"], told["model"]) == ("warning", "tiny/3")
    assert "superbin reference" in told["expected"]


def test_it_can_be_turned_off(folder: Path) -> None:
    write_bundle(folder, version="2")
    with served(folder, drift="false") as (server, client):
        send(client, 30, **TAGS)
        (model,) = client.get("/v1/drift").json()["models"]
        assert not model["watched"]
        assert series(client, "superbin_drift_score") == {}
    assert all(line["event"] != UNWATCHED for line in server.log_lines())


def test_it_needs_a_key_where_there_are_keys(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(f'[clients]\nline = "{digest_of("line")}"\n')
    with served(folder, keys_file=tmp_path / "keys.toml") as (_, client):
        problem(client.get("/v1/drift"), 401, "key_refused")
        assert client.get("/v1/drift", headers={"x-api-key": "line"}).status_code == 200


def test_several_workers_are_scraped_as_one(folder: Path) -> None:
    with served(folder, workers=2) as (server, client):

        def ask() -> None:  # over a connection of its own, which any of the workers may take
            url = f"{server.url}/v1/classify"
            httpx.post(url, params=TAGS, content=PHOTO, headers=JPEG).raise_for_status()

        def busy() -> set[int]:
            return {x["pid"] for x in server.log_lines() if x.get("route") == "/v1/classify"}

        asked = 0
        while len(busy()) < 2 or asked < 40:
            ask()
            asked += 1
        labels = ("tiny", "city-four-bins", "1", "left")
        until(
            lambda: series(client, "superbin_drift_photos").get(labels) == asked,
            "the photos of both",
        )
        assert series(client, "superbin_drift_score")[labels] >= 1.0
        until(lambda: places(client)[0]["photos"] == asked, "what the other worker has seen")
        (place,) = places(client)
        assert place["alarm"]
        assert client.get("/v1/drift").json()["workers"] == 2
