"""Whether the machine's time is to be believed, since what is removed by age goes by it.

One start with a wrong clock would else remove every photo. So the newest time that was believed is
in the database, and one that is more than a day off it is doubted until clocks have stayed with it
for a day, or somebody confirms it (`superbin review confirm-clock`). A service that was off for
weeks is doubted for a day, too: it cannot tell.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.review import schema
from service.review.records import DAY_S

LEAP_S = STAY_S = DAY_S
NAME = "clock"  # in the table `meta`
_meta = schema.meta
_DATED = (
    schema.photos.c.kept_at,
    schema.sightings.c.at,
    schema.votes.c.at,
    schema.feedback.c.at,
)


@dataclass(frozen=True)
class Clock:
    """What a store has seen of the time, in seconds since 1970.

    Attributes:
        newest: that was believed.
        doubted: that came since and is far off; None where the last one that came is believed.
        stayed_s: how long clocks have stayed with that.
    """

    newest: float
    doubted: float | None = None
    stayed_s: float = 0.0

    def after(self, now: float) -> Clock:
        """Once a clock says `now`."""
        if abs(now - self.newest) <= LEAP_S:
            return Clock(max(now, self.newest))
        if self.doubted is None or now < self.doubted - LEAP_S:
            return Clock(self.newest, now)
        passed = now - self.doubted  # below 0 where another server's clock is a little behind
        stayed_s = self.stayed_s + (passed if 0 < passed <= LEAP_S else 0)
        if stayed_s >= STAY_S:
            return Clock(now)
        return Clock(self.newest, max(now, self.doubted), stayed_s)


def look(connection: Connection, now: float) -> Clock:
    """What a store has seen once a clock says `now`; within a transaction that writes."""
    seen = read(connection, now).after(now)
    _write(connection, seen)
    return seen


def confirm(connection: Connection, now: float) -> Clock:
    """Believe `now`, whatever it is; what was seen before."""
    seen = read(connection, now)
    _write(connection, Clock(now))
    return seen


def read(connection: Connection, now: float) -> Clock:
    """What a store has seen; where nobody has looked yet, by the times that are in it."""
    found = connection.scalar(sa.select(_meta.c.value).where(_meta.c.name == NAME))
    if found is not None:
        return Clock(**json.loads(found))
    times = (connection.scalar(sa.select(sa.func.max(column))) for column in _DATED)
    return Clock(max((one for one in times if one is not None), default=now))


def dated(connection: Connection, now: float) -> float:
    """The time to write down for what comes now: never one that is long past.

    Where the clock is in the past, photos that come would else go once it is right again.
    """
    newest = read(connection, now).newest
    return newest if now < newest - LEAP_S else now


def told(seconds: float) -> str:
    """A time in words, of a clock that may say anything."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, OSError, ValueError):
        return f"{seconds:.0f} seconds after 1970"


def _write(connection: Connection, seen: Clock) -> None:
    connection.execute(_meta.delete().where(_meta.c.name == NAME))
    connection.execute(_meta.insert().values(name=NAME, value=json.dumps(asdict(seen))))
