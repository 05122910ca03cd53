"""Files that may lie there without a photo's row: they are listed before it comes to that.

A file's name is listed before the file is written, and unlisted in the transaction in which its
photo gets a row; where rows go, their names are listed in the same transaction. So whatever a crash
leaves is on the list, and only what is on the list, and has no row, is ever removed: a file that
this database never heard of is left alone, whoever put it there.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.review import schema
from service.review.database import Database
from service.review.files import PhotoFiles

PAGE = 500
_photos, _leftovers = schema.photos, schema.leftovers


def announce(connection: Connection, sha256: str, now: float) -> None:
    """List a file that is about to be written."""
    if not announced(connection, sha256):
        connection.execute(_leftovers.insert().values(sha256=sha256, at=now))


def announced(connection: Connection, sha256: str) -> bool:
    """Whether it is listed still, and so has not been swept away."""
    listed = sa.exists().where(_leftovers.c.sha256 == sha256)
    return bool(connection.scalar(sa.select(listed)))


def forget(connection: Connection, sha256: str) -> None:
    """Unlist a file whose photo has a row now."""
    connection.execute(_leftovers.delete().where(_leftovers.c.sha256 == sha256))


def remove_rows(connection: Connection, which: sa.ColumnElement[bool], now: float) -> int:
    """Remove photos' rows and list their files; how many went."""
    known = sa.select(_leftovers.c.sha256)
    leaving = sa.select(_photos.c.sha256, sa.literal(now)).where(
        which, _photos.c.sha256.not_in(known)
    )
    connection.execute(_leftovers.insert().from_select(["sha256", "at"], leaving))
    return connection.execute(_photos.delete().where(which)).rowcount


def sweep(database: Database, files: PhotoFiles) -> int:
    """Remove the listed files that no row names; how many there were.

    Raises:
        StoreUnavailable: where that cannot be done now.
    """
    swept, more = 0, True
    while more:
        with database.write() as connection:  # so that no row comes in between
            listed = list(connection.scalars(sa.select(_leftovers.c.sha256).limit(PAGE)))
            orphans = without_rows(connection, listed)
            for orphan in orphans:
                files.remove(orphan)
            connection.execute(_leftovers.delete().where(_leftovers.c.sha256.in_(listed)))
        swept += len(orphans)
        more = len(listed) == PAGE
    return swept


def without_rows(connection: Connection, names: list[str]) -> set[str]:
    """Those of these hashes that no photo's row has."""
    query = sa.select(_photos.c.sha256).where(_photos.c.sha256.in_(names))
    return set(names) - set(connection.scalars(query))
