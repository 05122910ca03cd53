"""A server at a small plant: sites, drift, doubts, review, a shadow and a swap, all of it used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from service.keys import digest_of
from tests.integration.asking import files
from tests.integration.server import Server, running, until
from tests.photo_factory import encode, noise
from tests.tiny_bundle import ITEMS, SUPERCLASSES, WIDTH, add_limits, write_bundle
from tests.tiny_site import write_site

DARK = encode(Image.new("RGB", (64, 64), (9, 9, 9)))
TAGS = {"site": "tiny", "line": "1", "camera": "left"}
CLIENT = {"x-api-key": "a-client's-key"}
REVIEWER = {"x-api-key": "reviewer"}
LOOKED_AT = 4
ADMIN = {"authorization": "Bearer the-admin's-key"}


@contextmanager
def plant(folder: Path) -> Iterator[tuple[Server, httpx.Client]]:
    """A server and who asks it; its files lie in `folder`."""
    known = np.random.default_rng(0).normal(size=(ITEMS, WIDTH)).astype(np.float32)
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    for version, seed in (("1", 0), ("2", 1)):
        path = write_bundle(folder / "models", version=version, seed=seed, drift=True)
        add_limits(path, known)
    (folder / "sites").mkdir()
    write_site(folder / "sites")
    write_site(folder / "sites", {"site": "wary", "costs.manual": 0.0})
    write_keys(folder / "keys.toml")
    settings: dict[str, object] = {
        "model": "tiny/1",
        "sites_dir": folder / "sites",
        "keys_file": folder / "keys.toml",
        "review_url": f"sqlite:///{folder}/review.db",
        "review_photos": folder / "photos",
        "review_random_share": 1.0,
        "review_double_share": 1.0,
        "review_queue_photos": 8,  # few to write when it ends
        "tally_url": f"sqlite:///{folder}/tally.db",
        "tally_interval_s": 0.5,
        "feedback_rate_s": 0.0,  # a test works as fast as it can
    }
    with (
        running(folder / "models", **settings) as server,
        httpx.Client(base_url=server.url, headers=CLIENT, timeout=30) as client,
    ):
        yield server, client


def write_keys(file: Path) -> None:
    """Of one client, one admin and one reviewer."""
    client, admin = digest_of(CLIENT["x-api-key"]), digest_of(ADMIN["authorization"].split()[1])
    file.write_text(
        f'[clients]\nline = "{client}"\n\n[admins]\nops = "{admin}"\n\n'
        f'[reviewers]\nroom = "{digest_of(REVIEWER["x-api-key"])}"\n'
    )


def prepare(client: httpx.Client) -> None:
    """Have a shadow beside the model."""
    params: dict[str, str | float] = {"version": "2", "share": 1.0}
    client.post("/v1/models/tiny/shadow", params=params, headers=ADMIN).raise_for_status()


def work(client: httpx.Client) -> None:
    """Send good and bad photos, with tags, with and without a site; tell of one that it is wrong.

    Among the good ones are some that the rules leave to a person, and some that may be hazardous.
    """
    good = [noise(seed) for seed in range(12)]
    answer = client.post("/v1/classify", params=TAGS, files=files(*good, DARK, b"no photo"))
    assert answer.status_code == 200, answer.text
    client.post("/v1/classify", params=TAGS | {"site": "wary"}, files=files(*good)).json()
    assert client.post("/v1/classify", files=files(*good)).status_code == 200
    told = {"request_id": answer.json()["request_id"], "photo": 0, "superclass": SUPERCLASSES[0]}
    heard = client.post("/v1/feedback", json=told)
    assert heard.status_code in (200, 202), heard.text


def review(client: httpx.Client) -> None:
    """Two people look at the same photos and disagree on one."""
    for person in ("ada", "ben"):
        headers = REVIEWER | {"x-reviewer": person}
        until(lambda who=headers: len(_tasks(client, who)) == LOOKED_AT, "photos to review")
        for photo in (photos := _tasks(client, headers)):
            word = SUPERCLASSES[photo % len(SUPERCLASSES)]
            if person == "ben" and photo == photos[-1]:
                word = SUPERCLASSES[(photo + 1) % len(SUPERCLASSES)]
            path = f"/v1/review/photos/{photo}/verdict"
            client.put(path, json={"superclass": word}, headers=headers).raise_for_status()


def _tasks(client: httpx.Client, headers: dict[str, str]) -> list[int]:
    """The photos that a reviewer has before them, the oldest first."""
    answer = client.post("/v1/review/queue", json={"limit": LOOKED_AT}, headers=headers)
    return [one["id"] for one in answer.json()["tasks"]]
