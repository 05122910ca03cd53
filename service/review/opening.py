"""How a review store is opened: to keep photos in it, or to read what is there."""

from __future__ import annotations

import time
from collections.abc import Callable

from service.review import older, ownership
from service.review.database import Database
from service.review.files import PhotoFiles
from service.review.records import Rules
from service.review.store import Store


def open_store(
    url: str, photos_url: str, rules: Rules | None = None, now: Callable[[], float] = time.time
) -> Store:
    """Open a store, make it where there is none, and remove what a crash left of photos.

    Args:
        url: of the database, such as `sqlite:////data/review.db` or `postgresql://user@host/name`.
        photos_url: a folder, or a URL that fsspec knows, such as `s3://bucket/photos`.
        now: the time in seconds since 1970.

    Raises:
        StoreError: where one of them cannot be used, with what was expected and what came.
    """
    database = Database(url)
    try:
        files = PhotoFiles(photos_url)
        ownership.claim(database, files)
        older.put_right(database)
        store = Store(database, files, rules or Rules(), now)
        store.sweep()
    except BaseException:
        database.close()
        raise
    return store


def read_store(url: str, photos_url: str) -> Store:
    """Open a store that is there, for reading: nothing is written or removed, or need be.

    Nothing is made, either, but the index (`-shm`) of an SQLite log that was left without one.
    Photos whose files are missing are found out by `load`. Where somebody begins to write to what
    nobody wrote to when it was opened, its methods raise StoreUnavailable: open it again.

    Raises:
        StoreError: where one of them is not there, or the photos are another database's.
    """
    database = Database(url, made=False)
    try:
        files = PhotoFiles(photos_url, made=False)
        ownership.check_readable(database, files)
    except BaseException:
        database.close()
        raise
    return Store(database, files, Rules())
