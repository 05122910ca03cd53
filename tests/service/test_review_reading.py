"""Who only reads a store makes, changes and removes nothing, and needs no right to."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.review.database import Database
from service.review.files import PhotoFiles
from service.review.opening import open_store, read_store
from service.review.records import Rules, StoreError, StoreUnavailable, Verdict
from tests.review_stores import new_photo

RULES = Rules(double_share=0.0)
ROOT = Path(__file__).resolve().parents[2]
READER = """
import os, sys, tempfile
from service.review.opening import open_store, read_store
with tempfile.TemporaryDirectory() as other:  # imports all, which nobody may be forbidden to do
    open_store(f"sqlite:///{other}/a.db", other).close()
    read_store(f"sqlite:///{other}/a.db", other).close()
if os.geteuid() == 0:  # who may write everywhere
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with read_store(*sys.argv[1:]) as store:
    for photo in store.photos():
        photo.load()
    print(len(list(store.reviewed())))
"""
WRITER = """
import sys
from service.review.records import Verdict
from service.review.opening import open_store
with open_store(*sys.argv[1:]) as store:
    store.undo(2, "anna")
    print("undone", flush=True)
    sys.stdin.read()
    store.review(2, "anna", Verdict("organic"))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Which others may look into, too."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def place(folder: Path) -> Path:
    """The folder of a store of five photos, four of them reviewed."""
    with open_store(url(folder), photos(folder), RULES) as store:
        for seed in range(5):
            added = store.add(new_photo(seed)).id
            if seed:
                store.review(added, "anna", Verdict("organic"))
    assert not beside(folder)
    return folder


@pytest.fixture
def killed(place: Path, tmp_path: Path) -> Path:
    """The same, and all that was said of its photos in the log of a writer that was killed."""
    with open_store(url(place), photos(place), RULES) as store:
        store.add(new_photo(5))
        store.undo(2, "anna")
        for file in place.glob("review.db*"):
            shutil.copy(file, tmp_path)  # as a kill would leave them
    for file in tmp_path.glob("review.db*"):
        shutil.copy(file, place)
    assert beside(place) == {"review.db-shm", "review.db-wal"}
    return place


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/review.db"


def photos(folder: Path) -> str:
    return str(folder / "photos")


def beside(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("review.db-*")}


def contents(folder: Path) -> dict[Path, bytes]:
    """What lies there; of the log's index, in which readers tell where they are, only that."""
    return {
        path: path.read_bytes() if path.is_file() and not path.name.endswith("-shm") else b""
        for path in folder.rglob("*")
    }


def reviewed(folder: Path) -> int:
    with read_store(url(folder), photos(folder)) as store:
        for photo in store.photos():
            photo.load()
        return len(list(store.reviewed()))


def reviewed_without_rights(folder: Path) -> int:
    """Those that somebody sees who may not write there.

    Raises:
        StoreError: as in the process that looks.
    """
    folder.chmod(0o555)
    command = [sys.executable, "-c", READER, url(folder), photos(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    folder.chmod(0o755)
    if done.returncode != 0:
        raise StoreError(done.stderr)
    return int(done.stdout)


HOWEVER = pytest.mark.parametrize("how", [reviewed, reviewed_without_rights])


@HOWEVER
def test_who_reads_makes_nothing(place: Path, how: Callable[[Path], int]) -> None:
    before = contents(place)
    assert how(place) == 4
    assert contents(place) == before


@HOWEVER
def test_who_reads_sees_what_a_killed_writer_left_and_leaves_it_there(
    killed: Path, how: Callable[[Path], int]
) -> None:
    before = contents(killed)
    assert how(killed) == 3
    assert contents(killed) == before
    with open_store(url(killed), photos(killed)) as store:
        assert store.counts().photos == 6


def test_a_log_without_its_index_is_read_where_that_may_be_made(killed: Path) -> None:
    (killed / "review.db-shm").unlink()
    with pytest.raises(StoreError, match=r"expected .*review\.db-shm beside .*review\.db-wal"):
        reviewed_without_rights(killed)
    assert beside(killed) == {"review.db-wal"}
    assert reviewed(killed) == 3


@HOWEVER
def test_who_reads_beside_a_writer_sees_what_it_has_written(
    place: Path, how: Callable[[Path], int]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url(place), photos(place)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"undone\n"
        before = contents(place)
        assert how(place) == 3
        assert contents(place) == before
        writer.communicate()  # lets it write once more, and end
    assert writer.returncode == 0
    assert not beside(place)
    assert reviewed(place) == 4


def test_what_is_written_while_it_is_read_as_unchanged_is_told(place: Path) -> None:
    with read_store(url(place), photos(place)) as read:
        reading = read.photos()
        next(reading)
        with open_store(url(place), photos(place), RULES) as store:
            store.add(new_photo(6))
            assert read.counts().photos == 5  # what was there when it was opened
        with pytest.raises(StoreUnavailable, match="was written to while it was read: begin again"):
            read.counts()
        assert read.counts().photos == 6


def test_what_goes_wrong_since_it_was_written_to_is_told_as_that(place: Path) -> None:
    with read_store(url(place), photos(place)) as read:
        (place / "review.db").write_bytes(b"this is no database, it is a letter" * 4000)
        with pytest.raises(StoreUnavailable, match="was written to while it was read"):
            read.counts()
        with pytest.raises(StoreUnavailable, match="file is not a database"):
            read.counts()


def test_a_database_that_keeps_no_log_is_read_too(place: Path) -> None:
    """As `VACUUM INTO` makes one."""
    copied = place / "copy.db"
    with sqlite3.connect(place / "review.db") as connection:
        connection.execute("VACUUM INTO ?", (str(copied),))
    connection.close()
    before = contents(place)
    with read_store(f"sqlite:///{copied}", photos(place)) as store:
        assert len(list(store.reviewed())) == 4
    assert contents(place) == before


def test_names_that_mean_something_in_a_uri_are_names(place: Path) -> None:
    odd = place / "an odd#one%41&é" / "what? mode=rwc;1.db"
    odd.parent.mkdir()
    shutil.copy(place / "review.db", odd)
    (place / "link.db").symlink_to(odd)
    for file in (odd, place / "link.db"):
        database = sa.URL.create("sqlite", database=str(file)).render_as_string()
        with read_store(database, photos(place)) as store:
            assert len(list(store.reviewed())) == 4
    assert list(odd.parent.iterdir()) == [odd]


def test_who_reads_cannot_write(place: Path) -> None:
    before = contents(place)
    with read_store(url(place), photos(place)) as read:
        with pytest.raises(StoreUnavailable, match="readonly"):
            read.add(new_photo(8))
        with pytest.raises(StoreUnavailable):
            read.prune()
    assert contents(place) == before


def test_what_is_not_there_is_not_made(place: Path) -> None:
    (place / "empty.db").touch()
    before = contents(place)
    for database, photos_url, told in (
        (f"sqlite:///{place}/typo.db", photos(place), f"there is no file {place}/typo.db"),
        (f"sqlite:///{place}/empty.db", photos(place), r"expected a review store, and .*is none"),
        (url(place), f"{place}/typo", f"expected photos in {place}/typo, and there is nothing"),
    ):
        with pytest.raises(StoreError, match=told):
            read_store(database, photos_url)
    assert contents(place) == before


def test_an_older_version_is_not_changed_by_who_reads(place: Path) -> None:
    with Database(url(place)).write() as connection:
        connection.execute(sa.text("UPDATE review_meta SET value = '1' WHERE name = 'version'"))
    with pytest.raises(StoreError, match=r"got 1 in .*the service brings it up to date"):
        read_store(url(place), photos(place))
    assert len(set(PhotoFiles(photos(place)).listed())) == 5
