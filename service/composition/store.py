"""Counts in a database: added up by several writers at once, each batch once, and read in groups.

store = CompositionStore("sqlite:////data/composition.db")
store.add("writer-1", batch)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from service.composition.question import Group, Question
from service.composition.schema import COMPOSITION, counts, writers
from service.composition.tally import Batch, Key, Place
from service.review.database import Database
from service.review.records import DAY_S
from service.sites import MANUAL

WRITER_DAYS = 7.0  # after which nobody tries to write a batch once more
PAUSE_DAYS = 4.0  # without a count; over a long weekend there is none

_INSERT: dict[str, Callable[[sa.Table], Any]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def _paused(connection: Connection, now: float) -> bool:
    """Whether nothing was counted for days, but for what was in the last one."""
    before = sa.select(sa.func.max(counts.c.hour)).where(counts.c.hour < now - DAY_S)
    newest = connection.scalar(before)
    return newest is None or bool(newest < now - PAUSE_DAYS * DAY_S)


class CompositionStore:
    """Reads and writes the counts."""

    def __init__(
        self, url: str, now: Callable[[], float] = time.time, *, made: bool = True
    ) -> None:
        """Nothing is asked of the database yet, so that it may be away.

        Args:
            made: False expects the tables to be there, and writes nothing.

        Raises:
            StoreError: where the URL cannot be used.
        """
        self._database = Database(url, COMPOSITION, prepared=False, made=made)
        self._prepared = False
        self._now = now

    def prepare(self) -> None:
        """Make the tables where they are missing.

        Raises:
            StoreError: where they are of another version, or may not be made.
            CompositionUnavailable: where the database is away.
        """
        if not self._prepared:
            self._database.prepare()
            self._prepared = True

    def close(self) -> None:
        """Let go of every connection."""
        self._database.close()

    def add(self, writer: str, batch: Batch) -> bool:
        """Add a batch up with what is there, all of it or nothing; False where it was before.

        Raises:
            StoreError, CompositionUnavailable: as `prepare`.
        """
        self.prepare()
        last = sa.select(writers.c.sequence).where(writers.c.writer == writer)
        with self._database.write() as connection:
            found = connection.scalar(last)
            if found is not None and found >= batch.sequence:
                return False
            self._upsert(connection, batch)
            self._remember(connection, writer, batch.sequence)
        return True

    def prune(self, days: float) -> int:
        """Remove hours that are older, and say how many rows; 0 days keep everything.

        None go after a pause, before something was counted for a day again: a clock that has leapt
        looks like one, and would take everything.

        Raises:
            StoreError, CompositionUnavailable: as `prepare`.
        """
        self.prepare()
        now = self._now()
        old = writers.c.written_at < now - WRITER_DAYS * DAY_S
        with self._database.write() as connection:
            connection.execute(writers.delete().where(old))
            if not days or _paused(connection, now):
                return 0
            gone = connection.execute(counts.delete().where(counts.c.hour < now - days * DAY_S))
            return gone.rowcount

    def places(self, days: float) -> list[Place]:
        """Places that something came from in the last days.

        Raises:
            StoreError, CompositionUnavailable: as `prepare`.
        """
        self.prepare()
        recent = counts.c.hour >= self._now() - days * DAY_S
        columns = (counts.c.site, counts.c.line, counts.c.camera)
        with self._database.read() as connection:
            found = connection.execute(sa.select(*columns).where(recent).distinct())
            return [(one.site, one.line, one.camera) for one in found]

    def sites(self) -> list[str]:
        """Sites of which anything was ever counted, and is kept, by name.

        Raises:
            StoreError, CompositionUnavailable: as `prepare`.
        """
        self.prepare()
        query = sa.select(counts.c.site).where(counts.c.site != "").distinct()
        with self._database.read() as connection:
            return list(connection.scalars(query.order_by(counts.c.site)))

    def sources(self, question: Question, limit: int) -> list[tuple[str, str]]:
        """At most so many sites and lines that anything came from in the question's time.

        Raises:
            StoreError, CompositionUnavailable: as `prepare`.
        """
        self.prepare()
        columns = (counts.c.site, counts.c.line)
        query = sa.select(*columns).where(_in_time(question)).distinct().order_by(*columns)
        with self._database.read() as connection:
            return [(one.site, one.line) for one in connection.execute(query.limit(limit))]

    def groups(self, question: Question, limit: int) -> tuple[list[Group], Group]:
        """At most so many groups, in the order of their values, and all of them added up.

        Raises:
            StoreError, CompositionUnavailable: as `prepare`.
        """
        self.prepare()
        columns = [_column(name).label(f"by_{name}") for name in question.by]
        where = _where(question)
        grouped = sa.select(*columns, *_SUMS).where(where)
        if columns:
            grouped = grouped.group_by(*columns).order_by(*columns)
        total = sa.select(*_SUMS).where(where)
        with self._database.read() as connection:
            found = connection.execute(grouped.limit(limit)).all()
            whole = connection.execute(total).one()
        return [_group(row, question.by) for row in found], _group(whole, ())

    def _upsert(self, connection: Connection, batch: Batch) -> None:
        insert = _INSERT[self._database.dialect](counts)
        added = {
            name: counts.c[name] + insert.excluded[name]
            for name in ("photos", "expected_wrong", "alerts")
        }
        connection.execute(
            insert.on_conflict_do_update(index_elements=Key._fields, set_=added),
            [
                key._asdict()
                | {
                    "photos": one.photos,
                    "expected_wrong": one.expected_wrong,
                    "alerts": one.alerts,
                }
                for key, one in sorted(batch.counts.items())
            ],
        )

    def _remember(self, connection: Connection, writer: str, sequence: int) -> None:
        insert = _INSERT[self._database.dialect](writers)
        words = {"sequence": sequence, "written_at": int(self._now())}
        connection.execute(
            insert.values(writer=writer, **words).on_conflict_do_update(
                index_elements=["writer"], set_=words
            )
        )


_SUMS = (
    sa.func.coalesce(sa.func.sum(counts.c.photos), 0).label("photos"),
    sa.func.coalesce(
        sa.func.sum(sa.case((counts.c.bin == MANUAL, counts.c.photos), else_=0)), 0
    ).label("manual"),
    sa.func.coalesce(sa.func.sum(counts.c.alerts), 0).label("alerts"),
    sa.func.coalesce(sa.func.sum(counts.c.expected_wrong), 0.0).label("expected_wrong"),
)


def _column(name: str) -> sa.ColumnElement[Any]:
    if name != "day":
        return counts.c[name]
    # Not a parameter: PostgreSQL would not know it again under GROUP BY.
    return counts.c.hour - counts.c.hour % sa.literal_column(str(int(DAY_S)))


def _in_time(question: Question) -> sa.ColumnElement[bool]:
    return sa.and_(counts.c.hour >= question.since, counts.c.hour < question.until)


def _where(question: Question) -> sa.ColumnElement[bool]:
    found = [_in_time(question)]
    if question.site is not None:
        found.append(counts.c.site == question.site)
    if question.line is not None:
        found.append(counts.c.line == question.line)
    return sa.and_(*found)


def _group(row: Any, by: tuple[str, ...]) -> Group:
    return Group(
        of={name: getattr(row, f"by_{name}") for name in by},
        photos=int(row.photos),
        manual=int(row.manual),
        alerts=int(row.alerts),
        expected_wrong=float(row.expected_wrong),
    )
