"""Photos out of the store, oldest first, each page in a transaction: a reader holds up nobody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import sqlalchemy as sa

from service.review import rows, schema
from service.review.database import Database
from service.review.records import ReviewedPhoto
from service.review.votes import standing

PAGE = 500
_photos = schema.photos


def usable() -> sa.ColumnElement[bool]:
    """Photos whose superclass people have settled."""
    return _photos.c.settled & _photos.c.label.is_not(None)


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


def reviewed(database: Database, load: rows.Load, after: int) -> Iterator[ReviewedPhoto]:
    """Usable photos with all that was said of them."""
    for page in pages(database, usable(), after):
        said = defaultdict(list)
        with database.read() as connection:
            for row in standing(connection, [row.id for row in page]):
                said[row.photo_id].append(rows.vote(row))
        for row in page:
            yield rows.reviewed_photo(row, tuple(said[row.id]), load)
