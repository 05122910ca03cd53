"""A real PostgreSQL server of one's own, on a socket in a folder and on no port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

DEBIAN = Path("/usr/lib/postgresql")


def find_pg_ctl() -> Path | None:
    """The program that starts a server; Debian keeps it out of PATH."""
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve()
    kept = sorted(DEBIAN.glob("*/bin/pg_ctl")) if DEBIAN.is_dir() else []
    return kept[-1] if kept else None


class Postgres:
    """A server that can be stopped and started again."""

    def __init__(self, pg_ctl: Path, folder: Path) -> None:
        self._pg_ctl, self._folder = pg_ctl, folder
        self.url = f"postgresql://postgres@/postgres?host={folder}"

    def initialise(self) -> None:
        """Make its files, which must not belong to root."""
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        initdb = self._pg_ctl.with_name("initdb")
        self._run(initdb, "-D", self._data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """And wait until it answers."""
        options = f"-k {self._folder} -c listen_addresses= -c fsync=off"
        log = self._folder / "log"
        self._run(self._pg_ctl, "start", "-w", "-D", self._data, "-l", log, "-o", options)

    def stop(self) -> None:
        """At once, with every connection."""
        self._run(self._pg_ctl, "stop", "-w", "-m", "immediate", "-D", self._data)

    def _run(self, *command: object) -> None:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        subprocess.run(
            list(map(str, command)),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **(user if os.geteuid() == 0 else {}),  # type: ignore[arg-type]
        )


def fresh_database(server: Postgres) -> str:
    """The URL of an empty database of its own."""
    name = f"d{uuid4().hex}"
    url = sa.make_url(server.url)
    admin = url.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(admin, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.set(database=name).render_as_string()


@contextmanager
def postgres(pg_ctl: Path) -> Iterator[Postgres]:
    """A server with an empty database `postgres`."""
    # Not under pytest's folder: a socket's path is short, and that folder may be root's alone.
    folder = Path(tempfile.mkdtemp(prefix="superbin-pg-"))
    server = Postgres(pg_ctl, folder)
    try:
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
