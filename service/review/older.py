"""What a service of an older version wrote into a store of this one is put right.

One that ran on while a newer one brought the store up to date knows no word of no refuse: it says
nothing of it where it settles a photo, and takes such feedback that waited for a superclass without
a name.
"""

from __future__ import annotations

import sqlalchemy as sa

from service.review import schema
from service.review.database import Database
from service.review.votes import settle

_photos, _votes = schema.photos, schema.votes


def put_right(database: Database) -> None:
    """Settle photos anew whose label is not what their votes say, by what those say.

    Raises:
        StoreUnavailable: where the database is away.
    """
    nameless = _votes.c.superclass == ""
    foreign = sa.exists().where(
        _votes.c.photo_id == _photos.c.id, _votes.c.undone_at.is_(None), _votes.c.no_refuse
    )
    unlike = (
        (_photos.c.label_no_refuse & (_photos.c.label.is_not(None) | ~foreign))
        | (_photos.c.settled & _photos.c.label.is_(None) & ~_photos.c.label_no_refuse & foreign)
        | (_photos.c.label == "")
    )
    with database.write() as connection:
        ids = {*connection.scalars(sa.select(_votes.c.photo_id).where(nameless))}
        if ids:
            connection.execute(
                _votes.update().where(nameless).values(superclass=None, no_refuse=True)
            )
        ids |= {*connection.scalars(sa.select(_photos.c.id).where(unlike))}
        for photo_id in sorted(ids):
            settle(connection, photo_id)
