"""A database, SQLite or PostgreSQL: one writer at a time, tables made as needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from service.extras import how_to_install
from service.review import sqlite
from service.review.records import StoreError, StoreUnavailable
from service.review.schema import UPGRADES, VERSION, meta, metadata

CONNECT_S = 5
LOCK = 0x5B1_0001  # PostgreSQL's advisory lock of the store: any number that others do not use


@dataclass(frozen=True)
class Schema:
    """Tables that are made and versioned together; a database may hold those of several.

    Attributes:
        meta: the table, of `name` and `value`, that has the version.
        name: in messages.
        setting: that names the database.
        unavailable: what is raised where it is away.
        upgrades: statements that make a version the next one, by the older one.
    """

    metadata: sa.MetaData
    meta: sa.Table
    version: int
    name: str
    setting: str
    unavailable: type[StoreUnavailable] = StoreUnavailable
    upgrades: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def expected(self) -> str:
        """How the setting has to look."""
        return (
            f"expected {self.setting} as sqlite:////folder/{self.name}.db or "
            "postgresql://user@host/name"
        )


REVIEW = Schema(metadata, meta, VERSION, "review", "SUPERBIN_REVIEW_URL", upgrades=UPGRADES)


class Database:
    """Transactions that read, and transactions that write, of which there is one at a time.

    So what a writer sees stays so until it commits: whether a photo's file is there, for example.
    """

    def __init__(
        self, url: str, schema: Schema = REVIEW, *, prepared: bool = True, made: bool = True
    ) -> None:
        """Connect, and make the tables.

        Args:
            prepared: False leaves `prepare` for later, so that the database may be away.
            made: False expects that everything is there, and makes and writes nothing
                (`service.review.sqlite` says what that is for SQLite).

        Raises:
            StoreError: where the URL is none, or the database cannot be reached or is of another
                version.
        """
        self._schema, self._made = schema, made
        self._url = _parse(url, schema.expected)
        self._engine = _engine(self._url, schema, made)
        self._reading = self._engine.execution_options(reads=True)
        if not prepared:
            return
        try:
            self.prepare()
        except StoreUnavailable as error:
            self.close()
            raise StoreError(
                f"{schema.expected}, and {self.name} cannot be opened: {error}"
            ) from error
        except StoreError:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Its URL, without a password."""
        return self._url.render_as_string()

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state.

        Raises:
            StoreUnavailable: where the database is away, or was changed by somebody who began to
                write after it had been opened to be read.
        """
        with self._available(), self._reading.begin() as connection:
            try:
                yield connection
            finally:  # what went wrong may come of that
                if sqlite.was_changed(connection):
                    raise self._schema.unavailable(
                        f"{self.name} was written to while it was read: begin again"
                    )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction beside which no other one writes, in any process; all of it or nothing.

        Raises:
            StoreUnavailable: where the database is away, another writer takes too long, or somebody
                has brought the tables to another version since they were prepared.
        """
        schema = self._schema
        with self._alone() as connection:
            found = self._found_version(connection)
            if found != str(schema.version):
                raise schema.unavailable(
                    f"expected a {schema.name} store of version {schema.version}, got {found}: "
                    "another version of Superbin has it now; end this one, which writes no more"
                )
            yield connection

    def prepare(self) -> None:
        """Make the tables that are missing, and bring older ones up to date, or only look.

        Raises:
            StoreError: where those that are there are of another version, or may not be made.
            StoreUnavailable: where the database is away.
        """
        if not self._made:
            self._check_there()
            return
        schema = self._schema
        meta = schema.meta
        with self._alone() as connection:
            schema.metadata.create_all(connection)
            found = self._found_version(connection)
            if found is None:
                connection.execute(meta.insert().values(name="version", value=str(schema.version)))
                return
            while found in schema.upgrades:
                for statement in schema.upgrades[found]:
                    connection.exec_driver_sql(statement)
                found = str(int(found) + 1)
                connection.execute(
                    meta.update().where(meta.c.name == "version").values(value=found)
                )
            if found != str(schema.version):
                raise StoreError(
                    f"expected a {schema.name} store of version {schema.version}, got {found}: it "
                    "belongs to another version of Superbin"
                )

    def _check_there(self) -> None:
        """See that the tables are there, and of this version, without a change.

        Raises:
            StoreError: where they are not.
            StoreUnavailable: where the database is away.
        """
        schema = self._schema
        with self.read() as connection:
            if not sa.inspect(connection).has_table(schema.meta.name):
                raise StoreError(f"expected a {schema.name} store, and {self.name} is none")
            found = self._found_version(connection)
        if found != str(schema.version):
            older = "; the service brings it up to date when it starts"
            raise StoreError(
                f"expected a {schema.name} store of version {schema.version}, got {found} in "
                f"{self.name}{older if found in schema.upgrades else ''}"
            )

    def _found_version(self, connection: Connection) -> str | None:
        meta = self._schema.meta
        return connection.scalar(sa.select(meta.c.value).where(meta.c.name == "version"))

    @contextmanager
    def _alone(self) -> Iterator[Connection]:
        """A transaction that writes, to tables of whatever version."""
        with self._available(), self._engine.begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            yield connection

    @contextmanager
    def _available(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            told = f"the {self._schema.name} database does not answer: {_cause(error)}"
            unavailable = self._schema.unavailable(told)
            unavailable.disk_full = _is_disk_full(error)
            raise unavailable from error


def _is_disk_full(error: Exception) -> bool:
    """By what SQLite calls it, or PostgreSQL."""
    cause = getattr(error, "orig", None)
    named = getattr(cause, "sqlite_errorname", None), getattr(cause, "sqlstate", None)
    return "SQLITE_FULL" in named or "53100" in named


def _cause(error: Exception) -> str:
    """The driver's own words, in one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split())[:300]


def _parse(url: str, expected: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreError(f"{expected}, got {url!r}") from error
    kind = parsed.get_backend_name()
    if kind == "postgresql" and parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if kind not in ("sqlite", "postgresql"):
        raise StoreError(f"{expected}, got {parsed.render_as_string()!r}")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StoreError(f"{expected}, got no file in {url!r}")
    return parsed


def _engine(url: URL, schema: Schema, made: bool) -> Engine:
    try:
        if url.get_backend_name() == "postgresql":
            connect = {"connect_timeout": CONNECT_S}
            return sa.create_engine(url, pool_pre_ping=True, connect_args=connect)
        engine = sa.create_engine(url, connect_args={"timeout": sqlite.BUSY_MS / 1000})
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise StoreError(
            f"{url.render_as_string()} needs a driver that is not installed ({error}): "
            f"{how_to_install('postgres')}"
        ) from error
    file = Path(str(url.database))
    if not made and not file.is_file():
        raise StoreError(f"expected a {schema.name} database, and there is no file {file}")
    if not file.parent.is_dir():
        raise StoreError(f"{schema.expected}, got {file}, whose folder does not exist")
    sqlite.set_up(engine, writes=made)
    return engine
