"""What has to go: by age, and where the store is full the oldest that nobody reviewed.

Clients' feedback is no review here, or a client could keep what it sent, and others' photos out.
Only rows go here; their files are for `Store.sweep`.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.review import clock, schema
from service.review.figures import Pruned
from service.review.leftovers import remove_rows
from service.review.records import DAY_S, Rules

SIGHTINGS_PER_PHOTO = 4  # of which the oldest are forgotten
PAGE = 500  # ids in a statement: PostgreSQL takes 65,535 parameters
_photos, _votes = schema.photos, schema.votes
_sightings, _feedback = schema.sightings, schema.feedback


def prune(connection: Connection, rules: Rules, seen: clock.Clock, now: float) -> Pruned:
    """Remove rows that are too old, unless the clock is doubted."""
    _keep_newest(connection, _feedback, rules.max_photos)
    _keep_newest(connection, _sightings, SIGHTINGS_PER_PHOTO * rules.max_photos)
    if seen.doubted is not None:
        return Pruned(doubt=_told(seen, now))
    old = now - DAY_S * rules.retention_days
    connection.execute(_feedback.delete().where(_feedback.c.at < old))
    unreviewed, reviewed = (remove_rows(connection, one, now) for one in _past_days(rules, now))
    return Pruned(unreviewed, reviewed)


def past_days(
    connection: Connection, rules: Rules, now: float, after: int, most: int
) -> list[tuple[int, str]]:
    """Ids and hashes of photos that are too old, by id and from `after` on, at most `most`."""
    old = sa.or_(*_past_days(rules, now)) & (_photos.c.id > after)
    found = sa.select(_photos.c.id, _photos.c.sha256).where(old).order_by(_photos.c.id)
    return [(row.id, row.sha256) for row in connection.execute(found.limit(most))]


def _past_days(rules: Rules, now: float) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    """Photos that no reviewer reviewed and that are too old, and the others."""
    old = _photos.c.kept_at < now - DAY_S * rules.retention_days
    if not rules.reviewed_retention_days:
        return _unreviewed() & old, sa.false()
    last = sa.select(sa.func.max(_votes.c.at)).where(_reviews()).scalar_subquery()
    return _unreviewed() & old, last < now - DAY_S * rules.reviewed_retention_days


def _told(seen: clock.Clock, now: float) -> str:
    return (
        f"expected the time to be at most a day from {clock.told(seen.newest)}, the newest that "
        f"the review store has seen, and the clock says {clock.told(now)}: nothing is removed by "
        "age until it has stayed so for a day"
    )


def make_room(connection: Connection, nbytes: int, rules: Rules, now: float) -> int | None:
    """Remove rows that no reviewer reviewed until one more photo fits.

    Returns:
        how many photos went; None where it does not fit without them.
    """
    photos, total = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(_photos.c.nbytes), 0)).select_from(
            _photos
        )
    ).one()
    surplus, excess = photos + 1 - rules.max_photos, int(total) + nbytes - rules.max_bytes
    if surplus <= 0 and excess <= 0:
        return 0
    leaving = []
    for photo_id, freed in _dispensable(connection, now):
        leaving.append(photo_id)
        surplus, excess = surplus - 1, excess - freed
        if surplus <= 0 and excess <= 0:
            break
    if surplus > 0 or excess > 0:
        return None
    for first in range(0, len(leaving), PAGE):
        page = leaving[first : first + PAGE]
        remove_rows(connection, _photos.c.id.in_(page), now)
    return len(leaving)


def _dispensable(connection: Connection, now: float) -> Iterator[tuple[int, int]]:
    """Ids and bytes of photos, the oldest of which nobody said anything before all others."""
    unheld = _photos.c.leased_until.is_(None) | (_photos.c.leased_until <= now)
    for which in (_photos.c.votes == 0, (_photos.c.votes > 0) & ~_reviewed()):
        found = sa.select(_photos.c.id, _photos.c.nbytes).where(which, unheld)
        with connection.execute(found.order_by(_photos.c.id)) as rows:
            yield from ((row.id, row.nbytes) for row in rows)


def _unreviewed() -> sa.ColumnElement[bool]:
    return (_photos.c.votes == 0) | ~_reviewed()


def _reviewed() -> sa.ColumnElement[bool]:
    return sa.exists().where(_reviews())


def _reviews() -> sa.ColumnElement[bool]:
    """Reviewers' votes on a photo that stand."""
    mine = (_votes.c.photo_id == _photos.c.id) & _votes.c.undone_at.is_(None)
    return mine & (_votes.c.kind == "review")


def _keep_newest(connection: Connection, table: sa.Table, most: int) -> None:
    newest = sa.select(table.c.id).order_by(table.c.id.desc()).offset(most).limit(1)
    last = connection.scalar(newest)
    if last is not None:
        connection.execute(table.delete().where(table.c.id <= last))
