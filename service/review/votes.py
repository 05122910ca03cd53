"""What people said of a photo, and whether that settles it; within a transaction that writes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from service.review import rows, schema
from service.review.records import Kind, Verdict

MOST_ASKED = 3  # where two disagree a third decides, and then it is over
_votes, _photos = schema.votes, schema.photos
Word = tuple[str | None, bool]


def cast_vote(
    connection: Connection, photo_id: int, reviewer: str, verdict: Verdict, kind: Kind, now: float
) -> None:
    """Let a verdict stand, in place of the one that this reviewer gave before.

    Raises:
        PhotoGone: where there is no such photo.
    """
    rows.find_photo(connection, photo_id)
    _undo(connection, photo_id, reviewer, now)
    connection.execute(
        _votes.insert().values(
            photo_id=photo_id,
            reviewer=reviewer,
            superclass=verdict.superclass,
            subclass=verdict.subclass,
            item=verdict.item,
            bin=verdict.bin,
            no_refuse=verdict.no_refuse,
            kind=kind,
            at=now,
        )
    )
    settle(connection, photo_id)


def take_back(connection: Connection, photo_id: int, reviewer: str, now: float) -> bool:
    """Let a reviewer's verdict stand no more; whether there was one."""
    undone = _undo(connection, photo_id, reviewer, now)
    if undone:
        settle(connection, photo_id)
    return undone


def _undo(connection: Connection, photo_id: int, reviewer: str, now: float) -> bool:
    found = connection.execute(
        _votes.update()
        .where(
            _votes.c.photo_id == photo_id,
            _votes.c.reviewer == reviewer,
            _votes.c.undone_at.is_(None),
        )
        .values(undone_at=now)
    )
    return found.rowcount > 0


def settle(connection: Connection, photo_id: int) -> None:
    """Work out anew, from the votes that stand, what a photo is and whether to ask on."""
    votes = standing(connection, [photo_id])
    base = connection.scalar(sa.select(_photos.c.base_wanted).where(_photos.c.id == photo_id)) or 1
    ranked = Counter(word(vote) for vote in votes).most_common(2)
    tied = len(ranked) == 2 and ranked[0][1] == ranked[1][1]
    wanted = max(base, MOST_ASKED) if tied else base
    values: dict[str, Any] = {"votes": len(votes), "wanted": wanted, "settled": False}
    values |= dict.fromkeys(("label", "label_subclass", "label_item", "reviewed_at"))
    values["label_no_refuse"] = False
    if len(votes) >= wanted and not tied:
        label, no_refuse = ranked[0][0]
        values |= {"settled": True, "label": label, "label_no_refuse": no_refuse}
        values["reviewed_at"] = votes[-1].at
        said = [vote for vote in votes if word(vote) == ranked[0][0]]
        for name in ("subclass", "item"):  # whoever said it last
            words = [getattr(vote, name) for vote in said if getattr(vote, name)]
            values[f"label_{name}"] = words[-1] if words else None
    connection.execute(_photos.update().where(_photos.c.id == photo_id).values(**values))


def word(vote: Row[Any]) -> Word:
    """What people have to agree on."""
    return vote.superclass, vote.no_refuse


def standing(connection: Connection, photo_ids: list[int]) -> list[Row[Any]]:
    """Votes that were not taken back, oldest first."""
    return list(
        connection.execute(
            sa.select(_votes)
            .where(_votes.c.photo_id.in_(photo_ids), _votes.c.undone_at.is_(None))
            .order_by(_votes.c.at, _votes.c.id)
        )
    )
