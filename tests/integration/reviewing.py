"""A server that keeps photos for review, and its store as a test fills it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import sqlalchemy as sa

from service.keys import digest_of
from service.review import schema
from service.review.opening import open_store
from service.review.records import Rules
from service.review.store import Store
from tests.integration.server import Server, running
from tests.review_stores import new_photo

KEY = "sesame"
CLIENT = "counter"  # which opens what takes photos, and not review

KEYS = f'[clients]\nkiosk = "{digest_of(CLIENT)}"\n[reviewers]\nroom = "{digest_of(KEY)}"\n'


@dataclass
class Reviewing:
    """A server with a reviewer's key `KEY` and a client's `CLIENT`; its store, open here too."""

    server: Server
    store: Store
    photos: Path

    def refill(self, photos: int) -> list[int]:
        """Forget everything and keep so many photos; their ids."""
        with self.store._database.write() as connection:
            for table in reversed(schema.metadata.sorted_tables):
                if table is not schema.meta:
                    connection.execute(sa.delete(table))
        self.store.sweep()
        return [self.store.add(new_photo(seed)).id for seed in range(photos)]

    def labels(self) -> dict[int, str]:
        """What people have settled."""
        return {one.photo.id: one.superclass for one in self.store.reviewed()}


@contextmanager
def reviewing(
    models_dir: Path, folder: Path, keys: str = KEYS, **settings: object
) -> Iterator[Reviewing]:
    """A server over a store in a folder."""
    keys_file = folder / "keys.toml"
    keys_file.write_text(keys)
    url, photos = f"sqlite:///{folder}/review.db", folder / "photos"
    given = {"review_url": url, "review_photos": str(photos), "keys_file": keys_file} | settings
    with (
        running(models_dir, **given) as server,
        open_store(url, str(photos), Rules(double_share=0.0)) as store,
    ):
        yield Reviewing(server, store, photos)


def review_settings(folder: Path) -> dict[str, object]:
    """Of a server that keeps every photo, in this folder."""
    return {
        "review_url": f"sqlite:///{folder}/review.db",
        "review_photos": folder / "photos",
        "review_random_share": 1.0,
        "review_double_share": 0.0,
    }


def kept(asking: httpx.Client) -> dict[str, float]:
    """How many photos a server has kept, or not, by the outcome."""
    lines = asking.get("/metrics").text.splitlines()
    mark = 'superbin_review_photos_total{outcome="'
    found = [line.removeprefix(mark).split('"} ') for line in lines if line.startswith(mark)]
    return {outcome: float(value) for outcome, value in found}
