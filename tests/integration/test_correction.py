"""From a service that is wrong about a kind to one that is right, by feedback and a new version.

The walk-through of the README, with a tiny model: a real server, a real store, the real command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from service.keys import digest_of
from service.review.opening import open_store
from tests.integration.server import until
from tests.integration.test_swap import ADMIN, load, served, shadow_counts
from tests.tiny_matching import photo_of, write_bundle, write_photos
from tests.training.test_whole_loop import superbin

CORRECTED = range(100, 125)
ASKED = range(300, 306)  # batteries that nobody corrects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that has never seen a battery, and an admin's key."""
    (tmp_path / "keys.toml").write_text(f'[admins]\nops = "{digest_of("the-admins-key")}"\n')
    write_bundle(tmp_path / "models", without=["battery"])
    return tmp_path / "models"


def classify(client: httpx.Client, kind: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    answer = client.post(
        "/v1/classify", content=photo_of(kind, number), headers={"content-type": "image/png"}
    ).json()
    return answer, answer["results"][0]


def bins_of(client: httpx.Client, kind: str) -> set[str]:
    return {classify(client, kind, number)[1]["superclass"] for number in ASKED}


def test_twenty_corrections_put_a_service_right(folder: Path, tmp_path: Path) -> None:
    store, kept = f"sqlite:///{tmp_path}/review.db", tmp_path / "kept"
    settings = {
        "model": "bins",
        "review_url": store,
        "review_photos": kept,
        "review_random_share": 1.0,  # it is wrong and sure of it, so chance must keep the photos
        "review_double_share": 0.0,
        "feedback_rate_s": 0.0,
    }
    with served(folder, **settings) as (_, client):
        assert bins_of(client, "battery") == {"residual"}
        before = {kind: bins_of(client, kind) for kind in ("can", "paper", "peel")}
        for number in CORRECTED:
            answer, result = classify(client, "battery", number)
            assert result["superclass"] == "residual"
            words = {"request_id": answer["request_id"], "photo": 0}
            words |= {"superclass": "hazardous", "subclass": "battery"}
            assert client.post("/v1/feedback", json=words).json()["recorded"]

        with open_store(store, str(kept)) as opened:
            until(lambda: opened.counts().reviewed == len(CORRECTED), "all feedback to count")
            held_out = opened.counts().held_out
        words = ["correct", folder / "bins" / "1", "--from-review", store]
        done = superbin(tmp_path, *words, "--review-photos", kept)
        assert done.returncode == 0, done.stderr
        assert f"{len(CORRECTED) - held_out} battery (hazardous)" in done.stdout
        assert bins_of(client, "battery") == {"residual"}  # nothing has been swapped

        chosen = {"version": "2", "share": 1.0}
        client.post("/v1/models/bins/shadow", params=chosen, headers=ADMIN).raise_for_status()
        assert bins_of(client, "battery") == {"residual"}
        until(
            lambda: shadow_counts(client, "bins/2") == {"disagreed": len(ASKED)},
            "the shadow to have seen them",
        )
        client.delete("/v1/models/bins/shadow", headers=ADMIN).raise_for_status()

        assert load(client, "bins", "2").json()["version"] == "2"
        assert bins_of(client, "battery") == {"hazardous"}
        _, result = classify(client, "battery", ASKED[0])
        assert result["references"][0]["source"] == "review"
        assert result["references"][0]["subclass"] == "battery"
        assert {kind: bins_of(client, kind) for kind in before} == before

        rolled = client.post("/v1/models/bins/roll-back", headers=ADMIN).json()
        assert rolled == {"name": "bins", "version": "1", "at_next_start": ["bins/2"]}
        assert bins_of(client, "battery") == {"residual"}


def test_a_served_folder_takes_the_corrected_version_by_itself(
    folder: Path, tmp_path: Path
) -> None:
    review = write_photos(tmp_path / "review", ["battery"], {"train": 20}, first=100)
    with served(folder, model="bins", watch_s=0.05) as (_, client):
        assert bins_of(client, "battery") == {"residual"}
        done = superbin(tmp_path, "correct", folder / "bins" / "1", "--from-review", review)
        assert done.returncode == 0, done.stderr
        until(lambda: bins_of(client, "battery") == {"hazardous"}, "the swap")
