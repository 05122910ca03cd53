"""Which database a folder of photos belongs to: both have the same random id.

A mistyped URL would else let one database write among another's photos, and remove some of them. A
folder and a database without an id, as they are at first and as older versions made them, become
one another's where the database lists any photo of the folder, or there is none on either side.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.review import leftovers, schema
from service.review.database import Database
from service.review.files import PhotoFiles
from service.review.records import StoreError, StoreUnavailable

PAGE = 500
NAME = "photos"  # of the id in the table `meta`
_meta, _photos = schema.meta, schema.photos


@dataclass(frozen=True)
class Adopted:
    """Photos that belong to a database now.

    Attributes:
        listed: by the database.
        there: of those, in the folder.
        unlisted: in the folder, and not known to the database.
    """

    listed: int
    there: int
    unlisted: int


def claim(database: Database, files: PhotoFiles) -> None:
    """See that the photos are this database's, or let them be where nobody's are.

    The id is in the database before it is in the folder: a crash in between is mended by the next.

    Raises:
        StoreError: where they are another's, or look as if they were.
    """
    with database.write() as connection:
        mine, found = _id(connection), files.owner()
        if found is not None:
            _check(database, files, mine, found)
            return
        _check_fit(connection, database, files)
        if mine is None:
            mine = _give_id(connection)
    files.mark(mine)


def check_readable(database: Database, files: PhotoFiles) -> None:
    """See that the photos are not another database's; photos that are missing are no matter here.

    Raises:
        StoreError: where they are.
    """
    with database.read() as connection:
        mine = _id(connection)
    found = files.owner()
    if found is not None:
        _check(database, files, mine, found)


def check_owned(database: Database, files: PhotoFiles) -> None:
    """See that the photos belong to this database still, before any is removed.

    Raises:
        StoreUnavailable: where somebody has changed that, or they are not there.
    """
    with database.read() as connection:
        mine = _id(connection)
    found = files.owner()
    if mine is None or found != mine:
        raise StoreUnavailable(
            f"expected {files.url} to belong to {database.name} ({(mine or 'none')[:8]}), and it "
            f"belongs to {(found or 'none')[:8]}: nothing is removed from it"
        )


def adopt(database: Database, files: PhotoFiles, *, remove_unlisted: bool = False) -> Adopted:
    """Let the photos belong to this database from now on, and to no other one.

    They get another id, also where they belonged to this one: it may be a copy, or have one.

    Args:
        remove_unlisted: whether photos that the database does not list are removed; else they stay,
            for ever.

    Raises:
        StoreUnavailable: where that cannot be done now.
    """
    with database.write() as connection:
        connection.execute(_meta.delete().where(_meta.c.name == NAME))
        mine = _give_id(connection)
    files.mark(mine)
    there = strays = 0
    for page in _pages(files):
        with database.write() as connection:  # so that no row comes in between
            unlisted = leftovers.without_rows(connection, page)
            strays += len(unlisted)
            there += len(page) - len(unlisted)
            for name in unlisted if remove_unlisted else ():
                files.remove(name)
    with database.read() as connection:
        return Adopted(_rows(connection), there, strays)


def _check(database: Database, files: PhotoFiles, mine: str | None, found: str) -> None:
    if found != mine:
        known = "knows no folder yet" if mine is None else f"has another one ({mine[:8]})"
        raise StoreError(
            f"{files.url} belongs to another review database ({found[:8]}), and {database.name} "
            f"{known}: is one of them mistyped? {_how(database, files)}"
        )


def _check_fit(connection: Connection, database: Database, files: PhotoFiles) -> None:
    """See that a folder that is marked as nobody's may be this database's."""
    there, rows = 0, _rows(connection)
    for page in _pages(files):
        there += len(page)
        if len(leftovers.without_rows(connection, page)) < len(page):
            return
    if there or rows:
        raise StoreError(
            f"{files.url} holds {there:,} photos, and {database.name} lists {rows:,}, of which "
            f"none is there: is one of them mistyped? {_how(database, files)}"
        )


def _how(database: Database, files: PhotoFiles) -> str:
    return (
        "To let these photos belong to that database from now on: "
        f"superbin review adopt {database.name} --photos {files.url}"
    )


def _id(connection: Connection) -> str | None:
    return connection.scalar(sa.select(_meta.c.value).where(_meta.c.name == NAME))


def _give_id(connection: Connection) -> str:
    mine = secrets.token_hex(16)
    connection.execute(_meta.insert().values(name=NAME, value=mine))
    return mine


def _rows(connection: Connection) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(_photos)) or 0


def _pages(files: PhotoFiles) -> Iterator[list[str]]:
    listed = files.listed()
    while page := list(islice(listed, PAGE)):
        yield page
