"""What arrives for the store: photos, and clients' feedback, which may be here sooner."""

from __future__ import annotations

import time

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.review import clock, leftovers, pruning, rows, schema
from service.review.cleaning import CleanPhoto
from service.review.database import Database
from service.review.files import PhotoFiles
from service.review.records import (
    Added,
    Feedback,
    NewPhoto,
    PhotoAmbiguous,
    Rules,
    StoreFull,
    StoreUnavailable,
    Verdict,
)
from service.review.votes import cast_vote

TRIES = 20  # to write a file that others sweep away, each time before it gets its row
PAUSE_S = 0.002  # longer each time
SLACK_S = 5.0  # by which the clocks of several servers may differ
_photos, _sightings, _feedback = schema.photos, schema.sightings, schema.feedback


def keep(
    database: Database,
    files: PhotoFiles,
    photo: NewPhoto,
    copy: CleanPhoto,
    rules: Rules,
    now: float,
) -> Added:
    """Write a photo's file, then its rows; again, where somebody swept the file away in between.

    Raises:
        StoreFull: where reviewed photos fill the store.
        StoreUnavailable: where it cannot be kept now.
    """
    for tried in range(TRIES):
        time.sleep(tried * PAUSE_S)
        with database.write() as connection:
            leftovers.announce(connection, copy.sha256, now)
        files.write(copy.sha256, copy.data)
        with database.write() as connection:  # beside which nobody sweeps
            if leftovers.announced(connection, copy.sha256) and files.exists(copy.sha256):
                added = _add(connection, photo, copy, rules, now)
                leftovers.forget(connection, copy.sha256)
                return added
    raise StoreUnavailable(
        f"expected a photo's file to be there once it is written, and {copy.sha256[:12]} was gone "
        f"from {files.url} {TRIES} times"
    )


def _add(
    connection: Connection, photo: NewPhoto, copy: CleanPhoto, rules: Rules, now: float
) -> Added:
    """A row for a photo, if its bytes are new, and one for where they were seen.

    Feedback that came since the photo was answered is counted as a vote now.
    """
    known = connection.scalar(sa.select(_photos.c.id).where(_photos.c.sha256 == copy.sha256))
    at, removed = clock.dated(connection, now), 0
    if known is None:
        removed = _make_room(connection, len(copy.data), rules, now)
        values = rows.photo_values(photo, copy, rules, at)
        inserted = connection.execute(_photos.insert().values(**values))
        photo_id = int(inserted.inserted_primary_key[0])  # type: ignore[index]
    else:
        photo_id = known
    connection.execute(
        _sightings.insert().values(
            photo_id=photo_id,
            request_id=photo.request_id,
            position=photo.position,
            at=at,
            client=photo.client,
        )
    )
    _apply_early_feedback(connection, photo_id, photo)
    return Added(photo_id, known is not None, removed)


def take_feedback(
    connection: Connection,
    request_id: str,
    position: int,
    reviewer: str,
    verdict: Verdict,
    now: float,
    client: str | None,
) -> Feedback:
    """A vote on the photo where it is kept; else words that wait for it.

    Args:
        client: whose photos they may be of; None where of everybody's.

    Raises:
        PhotoAmbiguous: where several requests were given one id, and their photos differ.
    """
    theirs = (_sightings.c.request_id == request_id) & _concerns(_sightings, client)
    seen = sa.select(_sightings.c.photo_id).where(theirs, _sightings.c.position == position)
    found = connection.scalars(seen.distinct().limit(2)).all()
    if len(found) > 1:
        raise PhotoAmbiguous(
            f"expected one photo {position} of request {request_id!r}, got several that differ: "
            "feedback needs an X-Request-ID of its own for each request, or none, so that the "
            "answer has one"
        )
    if found:
        photo_id = found[0]
        cast_vote(connection, photo_id, reviewer, verdict, "feedback", now)
        row = rows.find_photo(connection, photo_id)
        return Feedback(photo_id, True, row.settled, row.votes < row.wanted)
    connection.execute(
        _feedback.insert().values(
            request_id=request_id,
            position=position,
            reviewer=reviewer,
            superclass=verdict.superclass or "",
            subclass=verdict.subclass,
            item=verdict.item,
            no_refuse=verdict.no_refuse,
            at=now,
            client=client,
        )
    )
    others = sa.exists().where(theirs)
    return Feedback(None, request_known=bool(connection.scalar(sa.select(others))))


def _concerns(table: sa.Table, client: str | None) -> sa.ColumnElement[bool]:
    """Rows of the same client, and of none; where there is no client, all."""
    if client is None:
        return sa.true()
    return table.c.client.is_(None) | (table.c.client == client)


def _make_room(connection: Connection, nbytes: int, rules: Rules, now: float) -> int:
    """Not by removing files: that is for afterwards. How many photos went."""
    removed = pruning.make_room(connection, nbytes, rules, now)
    if removed is None:
        raise StoreFull(
            f"expected fewer than {rules.max_photos:,} photos and "
            f"{rules.max_bytes:,} bytes that were reviewed, and they fill the review store"
        )
    return removed


def _apply_early_feedback(connection: Connection, photo_id: int, photo: NewPhoto) -> None:
    """What its client said since it was answered; before, the request's id was another's."""
    mine = (
        (_feedback.c.request_id == photo.request_id)
        & (_feedback.c.position == photo.position)
        & (_feedback.c.at >= photo.answered_at - SLACK_S)
        & _concerns(_feedback, photo.client)
    )
    for early in connection.execute(sa.select(_feedback).where(mine).order_by(_feedback.c.id)):
        superclass = early.superclass or None
        verdict = Verdict(superclass, early.subclass, early.item, no_refuse=early.no_refuse)
        cast_vote(connection, photo_id, early.reviewer, verdict, "feedback", early.at)
    connection.execute(_feedback.delete().where(mine))
