"""Connections to SQLite: those that write keep a write-ahead log, and those that read make nothing.

A reader of a database with such a log needs two files beside it, the log (NAME-wal) and its index
(NAME-shm). Where they lie there, since somebody writes or was killed, it uses them and leaves them
there. Where they do not, SQLite would make them even for who may only read and leave them as that
user's, beside which the service could not write any more; and where it may not make them it could
not read at all. So the file is then opened as one that nobody changes (`immutable`), and every
transaction sees in the end that nobody did. A log without its index, as an incomplete backup has,
is the one case in which a reader makes a file, the index, or is refused where it may not.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

BUSY_MS = 10_000  # for which one writer waits for another
PAUSE_S = 0.01
SEEN = "superbin_seen"  # in a connection's `info`: a file that is taken as unchanged, its look


def set_up(engine: Engine, *, writes: bool) -> None:
    """Let an engine's connections write, beside others that do; or only read, and make nothing."""
    if not writes:
        event.listen(engine, "do_connect", _connect_read_only)
    event.listen(engine, "connect", _set_up_writer if writes else _set_up_reader)
    event.listen(engine, "begin", _begin)


def was_changed(connection: Connection) -> bool:
    """Whether somebody changed the file that a reader has opened as one that nobody changes.

    The connection is then of no use any more.
    """
    if SEEN not in connection.info:
        return False
    file, seen = connection.info[SEEN]
    if _look(file) == seen:
        return False
    connection.invalidate()
    return True


def _connect_read_only(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    """A connection that may not write.

    Raises:
        sqlite3.OperationalError: where it cannot be read without making files, which is forbidden.
    """
    file = Path(arguments[0]).resolve()
    seen = file, _look(file)  # before the log is looked for, which goes last
    uri = f"{file.as_uri()}?mode=ro"
    record.info.pop(SEEN, None)
    if _nobody_writes(file):
        record.info[SEEN] = seen
        uri += "&immutable=1"
    return dialect.connect(uri, *arguments[1:], **{**options, "uri": True})


def _nobody_writes(file: Path) -> bool:
    """Whether the file alone has all that was written, and nobody has it open for writing.

    Raises:
        sqlite3.OperationalError: where a log has some of it, and cannot be read here.
    """
    journal, log, index = (file.with_name(file.name + end) for end in ("-journal", "-wal", "-shm"))
    if _look(journal) or (_look(log) and _look(index)):
        return False
    logged = bool((found := _look(log)) and found.nbytes)
    if logged and not os.access(file.parent, os.W_OK):
        raise sqlite3.OperationalError(
            f"expected {index} beside {log}, or a folder in which it may be made: copy both "
            f"{file} and the log to one"
        )
    return not logged


class Look(NamedTuple):
    """What changes where a file does."""

    inode: int
    nbytes: int
    modified_ns: int


def _look(file: Path) -> Look | None:
    """None where it is not there."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return Look(found.st_ino, found.st_size, found.st_mtime_ns)


def _set_up_writer(connection: Any, _record: object) -> None:
    _set_up_reader(connection, _record)
    _write_ahead(connection)
    for pragma in (
        "synchronous = FULL",  # what was accepted outlives a power cut too
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _set_up_reader(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")


def _write_ahead(connection: Any) -> None:
    """Keep a write-ahead log; SQLite does not wait for others by itself to change to that.

    Raises:
        sqlite3.OperationalError: where the others take too long.
    """
    end = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE_S)
        else:
            return


def _begin(connection: Connection) -> None:
    """A writer takes the lock at once: one that has read first could not wait for it later."""
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
