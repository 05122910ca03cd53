"""How much is in the store, and how far a reviewer has come."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.review import leases, paging, schema
from service.review.figures import Counts, Progress

_photos, _votes = schema.photos, schema.votes


def counts(connection: Connection) -> Counts:
    """Of the whole store."""
    several = (_photos.c.votes > 1) & ~_photos.c.settled
    halfway = (_photos.c.votes == 1) & ~_photos.c.settled
    row = connection.execute(
        sa.select(
            sa.func.count().label("photos"),
            sa.func.coalesce(sa.func.sum(_photos.c.nbytes), 0).label("nbytes"),
            _how_many(leases.waiting()).label("queue"),
            _how_many(_photos.c.settled).label("reviewed"),
            _how_many(paging.no_use()).label("no_use"),
            _how_many(paging.no_refuse()).label("no_refuse"),
            _how_many(_photos.c.settled & _photos.c.held_out).label("held_out"),
            _how_many(several).label("unsettled"),
            _how_many(halfway).label("halfway"),
        ).select_from(_photos)
    ).one()
    feedback = connection.scalar(sa.select(sa.func.count()).select_from(schema.feedback))
    return Counts(
        **{name: int(value) for name, value in row._mapping.items()},
        disputed=_disputed(connection),
        feedback=feedback or 0,
    )


def kinds(connection: Connection, most: int) -> list[str]:
    """Kinds that people have told of settled photos, those of the most photos first."""
    kind = _photos.c.label_subclass
    found = sa.select(kind).where(_photos.c.settled, kind.is_not(None)).group_by(kind)
    return list(connection.scalars(found.order_by(sa.func.count().desc(), kind).limit(most)))


def _disputed(connection: Connection) -> int:
    """Photos of which clients say otherwise than reviewers."""
    theirs, ours = _votes.alias(), _votes.alias()
    differ = (
        (theirs.c.kind == "feedback")
        & (ours.c.kind == "review")
        & theirs.c.undone_at.is_(None)
        & ours.c.undone_at.is_(None)
        & (
            theirs.c.superclass.is_distinct_from(ours.c.superclass)
            | (theirs.c.no_refuse != ours.c.no_refuse)
        )
    )
    found = (
        sa.select(sa.func.count(sa.distinct(theirs.c.photo_id)))
        .select_from(theirs.join(ours, theirs.c.photo_id == ours.c.photo_id))
        .where(differ)
    )
    return connection.scalar(found) or 0


def progress(connection: Connection, reviewer: str, since: float, now: float) -> Progress:
    """Of one reviewer; what others have before them is not left."""
    free = leases.free(reviewer, now)
    left = leases.for_reviewer(reviewer, skipped=False) & free
    skipped = leases.for_reviewer(reviewer, skipped=True) & leases.skipped_by(reviewer) & free
    mine = (_votes.c.reviewer == reviewer) & _votes.c.undone_at.is_(None)
    left_n, skipped_n = connection.execute(
        sa.select(_how_many(left), _how_many(skipped)).select_from(_photos)
    ).one()
    done, today = connection.execute(
        sa.select(sa.func.count(), _how_many(_votes.c.at >= since)).select_from(_votes).where(mine)
    ).one()
    return Progress(int(left_n), int(skipped_n), int(done), int(today))


def _how_many(which: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((which, 1), else_=0)), 0)
