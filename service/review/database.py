"""The store's database, SQLite or PostgreSQL: one writer at a time, tables made as needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from service.review.records import StoreError, StoreUnavailable
from service.review.schema import VERSION, meta, metadata

BUSY_MS = 10_000  # for which one writer waits for another
CONNECT_S = 5
LOCK = 0x5B1_0001  # PostgreSQL's advisory lock of the store: any number that others do not use
EXPECTED = (
    "expected SUPERBIN_REVIEW_URL as sqlite:////folder/review.db or postgresql://user@host/name"
)


class Database:
    """Transactions that read, and transactions that write, of which there is one at a time.

    So what a writer sees stays so until it commits: whether a photo's file is there, for example.
    """

    def __init__(self, url: str) -> None:
        """Connect, and make the tables.

        Raises:
            StoreError: where the URL is none, or the database cannot be reached or is of another
                version.
        """
        self._url = _parse(url)
        self._engine = _engine(self._url)
        self._reading = self._engine.execution_options(reads=True)
        try:
            self._prepare()
        except (SQLAlchemyError, StoreUnavailable) as error:
            self.close()
            raise StoreError(
                f"{EXPECTED}, and {self._url.render_as_string()} cannot be opened: {_cause(error)}"
            ) from error

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state.

        Raises:
            StoreUnavailable: where the database is away.
        """
        with _available(), self._reading.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction beside which no other one writes, in any process; all of it or nothing.

        Raises:
            StoreUnavailable: where the database is away, or another writer takes too long.
        """
        with _available(), self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            yield connection

    def _prepare(self) -> None:
        with self.write() as connection:
            metadata.create_all(connection)
            found = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "version"))
            if found is None:
                connection.execute(meta.insert().values(name="version", value=str(VERSION)))
            elif found != str(VERSION):
                raise StoreError(
                    f"expected a review store of version {VERSION}, got {found}: it belongs to "
                    "another version of Superbin"
                )


@contextmanager
def _available() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"the review database does not answer: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """The driver's own words, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"{EXPECTED}, got {url!r}") from error
    kind = parsed.get_backend_name()
    if kind == "postgresql" and parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if kind not in ("sqlite", "postgresql"):
        raise StoreError(f"{EXPECTED}, got {parsed.render_as_string()!r}")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StoreError(f"{EXPECTED}, got no file in {url!r}")
    return parsed


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() == "postgresql":
            connect = {"connect_timeout": CONNECT_S}
            return sa.create_engine(url, pool_pre_ping=True, connect_args=connect)
        engine = sa.create_engine(url, connect_args={"timeout": BUSY_MS / 1000})
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            f"{url.render_as_string()} needs a driver that is not installed ({error}): "
            "pip install 'superbin[postgres]'"
        ) from error
    folder = Path(str(url.database)).parent
    if not folder.is_dir():
        raise StoreError(f"{EXPECTED}, got {url.database}, whose folder does not exist")
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    for pragma in (
        f"busy_timeout = {BUSY_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # what was accepted outlives a power cut too
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock at once: one that has read first could not wait for it later."""
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
