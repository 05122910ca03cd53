"""A review database that another process keeps locked: only words about photos wait for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from service.inference import INLINE_BYTES
from tests.integration.inference import PHOTOS, pixels
from tests.integration.reviewing import review_settings
from tests.integration.server import running, until

ASKING = 40  # more than there are threads, of whatever kind


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else writes to it meanwhile."""
    with closing(sqlite3.connect(database, isolation_level=None)) as holding:
        holding.execute("BEGIN IMMEDIATE")
        yield


def test_inference_does_not_wait_for_a_locked_review_database(
    models_dir: Path, tmp_path: Path
) -> None:
    images = pixels().repeat(4, axis=0)
    asked = {
        "inputs": [
            {
                "name": "images",
                "datatype": "UINT8",
                "shape": list(images.shape),
                "data": images.ravel().tolist(),
            }
        ]
    }
    settings = review_settings(tmp_path)
    with (
        running(models_dir, feedback_rate_s=0, **settings) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
        ThreadPoolExecutor(ASKING) as people,
    ):
        body = {"content-type": "image/jpeg"}
        answer = client.post("/v1/classify", content=PHOTOS[0], headers=body).json()
        words = {"request_id": answer["request_id"], "photo": 0, "superclass": "organic"}
        with locked(tmp_path / "review.db"):
            said = [people.submit(client.post, "/v1/feedback", json=words) for _ in range(ASKING)]
            until(lambda: all(one.running() or one.done() for one in said), "all to ask")
            for _ in range(20):  # by then they have all come
                client.get("/readyz")
            found = client.post("/v2/models/tiny/infer", json=asked)
            assert found.status_code == 200
            assert len(found.request.content) > INLINE_BYTES
            # An answer takes ten seconds where the database stays locked.
            assert sum(one.done() for one in said) < ASKING / 2
        assert {one.result().status_code for one in said} <= {200, 202, 503}
