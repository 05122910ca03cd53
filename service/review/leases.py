"""Who has which photo before them; within a transaction that writes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from service.review import schema

_photos, _votes, _skips = schema.photos, schema.votes, schema.skips


def waiting() -> sa.ColumnElement[bool]:
    """Photos of which not enough people were asked."""
    return _photos.c.votes < _photos.c.wanted


def for_reviewer(reviewer: str, skipped: bool) -> sa.ColumnElement[bool]:
    """Of those, the photos that this reviewer has not seen."""
    voted = sa.exists().where(
        _votes.c.photo_id == _photos.c.id,
        _votes.c.reviewer == reviewer,
        _votes.c.undone_at.is_(None),
    )
    found = waiting() & ~voted
    return found if skipped else found & ~skipped_by(reviewer)


def skipped_by(reviewer: str) -> sa.ColumnElement[bool]:
    """Photos that this reviewer skipped."""
    return sa.exists().where(_skips.c.photo_id == _photos.c.id, _skips.c.reviewer == reviewer)


def free(reviewer: str, now: float) -> sa.ColumnElement[bool]:
    """Photos that nobody else has before them."""
    return (
        _photos.c.leased_until.is_(None)
        | (_photos.c.leased_until <= now)
        | (_photos.c.leased_by == reviewer)
    )


def take(
    connection: Connection,
    reviewer: str,
    which: sa.ColumnElement[bool],
    limit: int,
    now: float,
    until: float,
) -> list[Row[Any]]:
    """The oldest of `which` that are free, at most `limit`: this reviewer's until `until`."""
    found = list(
        connection.execute(
            sa.select(_photos).where(which, free(reviewer, now)).order_by(_photos.c.id).limit(limit)
        )
    )
    for row in found:
        lease(connection, row.id, reviewer, now, until)
    return found


def lease(connection: Connection, photo_id: int, reviewer: str, now: float, until: float) -> None:
    """Give a photo to a reviewer, unless another has it."""
    connection.execute(
        _photos.update()
        .where(_photos.c.id == photo_id, free(reviewer, now))
        .values(leased_by=reviewer, leased_until=until)
    )


def release(connection: Connection, reviewer: str, photo_id: int | None = None) -> None:
    """Take a photo, or all, from a reviewer."""
    mine = _photos.c.leased_by == reviewer
    if photo_id is not None:
        mine &= _photos.c.id == photo_id
    connection.execute(_photos.update().where(mine).values(leased_by=None, leased_until=None))


def skip(connection: Connection, photo_id: int, reviewer: str) -> None:
    """Leave a photo to others."""
    unskip(connection, photo_id, reviewer)
    connection.execute(_skips.insert().values(photo_id=photo_id, reviewer=reviewer))
    release(connection, reviewer, photo_id)


def unskip(connection: Connection, photo_id: int, reviewer: str) -> bool:
    """As if it had not been skipped; whether it was."""
    mine = (_skips.c.photo_id == photo_id) & (_skips.c.reviewer == reviewer)
    return connection.execute(_skips.delete().where(mine)).rowcount > 0
