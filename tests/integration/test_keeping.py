"""Photos that are kept while they are answered: none is lost at an end, and a bad store is told."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from service.review.opening import open_store
from tests.integration.asking import files
from tests.integration.reviewing import kept, review_settings
from tests.integration.server import environment, running, spawn, until
from tests.photo_factory import noise
from tests.tiny_bundle import write_bundle


def test_photos_that_wait_are_written_before_the_service_ends(
    models_dir: Path, tmp_path: Path
) -> None:
    with running(models_dir, **review_settings(tmp_path)) as server:
        photos = [noise(seed) for seed in range(16)]
        answer = httpx.post(f"{server.url}/v1/classify", files=files(*photos), timeout=30).json()
        assert all("review" in result for result in answer["results"])
        assert server.stop() == 0
    with open_store(f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos")) as store:
        assert store.counts().photos == 16


def test_workers_share_a_store(tmp_path: Path) -> None:
    write_bundle(tmp_path / "models")
    with running(tmp_path / "models", workers=2, **review_settings(tmp_path)) as server:
        for seed in range(12):
            answer = httpx.post(f"{server.url}/v1/classify", files=files(noise(seed)), timeout=30)
            assert answer.json()["results"][0]["review"]
        with httpx.Client(base_url=server.url) as asking:
            until(lambda: kept(asking).get("kept") == 12, "all photos to be kept")
        assert server.stop() == 0
    with open_store(f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos")) as store:
        assert store.counts().photos == 12


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"review_url": "mysql://x/y"}, "expected SUPERBIN_REVIEW_URL as sqlite:"),
        ({"review_url": "sqlite:////no/such/review.db"}, "whose folder does not exist"),
        ({"review_photos": ""}, "SUPERBIN_REVIEW_PHOTOS together, got SUPERBIN_REVIEW_URL alone"),
    ],
)
def test_a_store_that_cannot_be_used_stops_the_start_in_one_line(
    models_dir: Path, tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    server = spawn(environment(models_dir, **review_settings(tmp_path) | changes))
    assert server.ended() == 1
    (line,) = server.stderr
    assert told in line


def test_a_service_that_is_killed_leaves_a_store_that_opens(
    models_dir: Path, tmp_path: Path
) -> None:
    with running(models_dir, **review_settings(tmp_path)) as server:
        with httpx.Client(base_url=server.url, timeout=30) as asking:
            asking.post("/v1/classify", files=files(*(noise(seed) for seed in range(16))))
            until(lambda: kept(asking).get("kept", 0) >= 3, "some photos to be kept")
            least = kept(asking)["kept"]
        server.process.send_signal(signal.SIGKILL)
        server.ended()
    with open_store(f"sqlite:///{tmp_path}/review.db", str(tmp_path / "photos")) as store:
        photos = list(store.photos())
        assert len(photos) >= least
        assert all(len(one.load()) == one.nbytes for one in photos)
        assert {one.sha256 for one in photos} == set(store._files.listed())
