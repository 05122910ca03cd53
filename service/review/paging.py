"""Photos out of the store, each page in a transaction: a reader holds up nobody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import sqlalchemy as sa

from service.review import rows, schema
from service.review.database import Database
from service.review.records import KeptPhoto, PhotoGone, ReviewedPhoto, Verdict, Vote
from service.review.votes import standing

PAGE = 500
_photos, _votes = schema.photos, schema.votes


def usable() -> sa.ColumnElement[bool]:
    """Photos whose superclass people have settled."""
    return _photos.c.settled & (_photos.c.label != "")


def no_refuse() -> sa.ColumnElement[bool]:
    """Photos of which people have settled that they show no refuse, and are of no superclass."""
    return _photos.c.settled & _photos.c.label_no_refuse & _photos.c.label.is_(None)


def no_use() -> sa.ColumnElement[bool]:
    """Photos of which people have settled that nothing can be told of them."""
    return _photos.c.settled & _photos.c.label.is_(None) & ~_photos.c.label_no_refuse


def floor(database: Database, which: sa.ColumnElement[bool], newest: int) -> int:
    """The id below the `newest` of those photos, for `pages(after=...)`."""
    query = sa.select(_photos.c.id).where(which).order_by(_photos.c.id.desc())
    with database.read() as connection:
        return connection.scalar(query.offset(newest).limit(1)) or 0


def pages(
    database: Database, which: sa.ColumnElement[bool], after: int = 0
) -> Iterator[list[sa.Row[tuple[object, ...]]]]:
    """Rows whose id is greater than `after`, by id."""
    while True:
        with database.read() as connection:
            query = sa.select(_photos).where(which, _photos.c.id > after)
            page = list(connection.execute(query.order_by(_photos.c.id).limit(PAGE)))
        if not page:
            return
        yield page
        after = page[-1].id


def said_by(
    database: Database, load: rows.Load, reviewer: str, most: int
) -> list[tuple[KeptPhoto, Vote]]:
    """A reviewer's votes that stand, newest first, each with its photo."""
    mine = (_votes.c.reviewer == reviewer) & _votes.c.undone_at.is_(None)
    newest = sa.select(_votes).where(mine).order_by(_votes.c.at.desc(), _votes.c.id.desc())
    with database.read() as connection:
        votes = connection.execute(newest.limit(most)).all()
        which = _photos.c.id.in_([one.photo_id for one in votes])
        photos = {row.id: row for row in connection.execute(sa.select(_photos).where(which))}
    kept = (one for one in votes if one.photo_id in photos)  # others were removed in between
    return [(rows.kept_photo(photos[one.photo_id], load), rows.vote(one)) for one in kept]


def found(
    database: Database, load: rows.Load, sha256: str
) -> tuple[KeptPhoto, Verdict | None, list[Vote]]:
    """A photo by its hash, what is settled of it, and its votes that stand, oldest first.

    Raises:
        PhotoGone: where there is none.
    """
    with database.read() as connection:
        row = connection.execute(sa.select(_photos).where(_photos.c.sha256 == sha256)).first()
        if row is None:
            raise PhotoGone(
                f"expected a photo that is kept, got {sha256}, which is none, or is gone"
            )
        votes = [rows.vote(one) for one in standing(connection, [row.id])]
    said = Verdict(row.label, row.label_subclass, row.label_item, no_refuse=row.label_no_refuse)
    return rows.kept_photo(row, load), said if row.settled else None, votes


def foreign(database: Database, load: rows.Load, after: int) -> Iterator[KeptPhoto]:
    """Photos that are settled as no refuse."""
    for page in pages(database, no_refuse(), after):
        yield from (rows.kept_photo(row, load) for row in page)


def reviewed(database: Database, load: rows.Load, after: int) -> Iterator[ReviewedPhoto]:
    """Usable photos with all that was said of them."""
    for page in pages(database, usable(), after):
        said = defaultdict(list)
        with database.read() as connection:
            for row in standing(connection, [row.id for row in page]):
                said[row.photo_id].append(rows.vote(row))
        for row in page:
            yield rows.reviewed_photo(row, tuple(said[row.id]), load)
