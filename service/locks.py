"""A folder in which one process at a time is at work."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import FolderBusy

LOCK = "lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the one process at work on a folder; the system lets go where a process is killed.

    Raises:
        FolderBusy: where another one is at it, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise FolderBusy(f"cannot write into {folder.parent}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderBusy(f"another process is at work on {folder}") from error
        except OSError as error:
            raise FolderBusy(f"{folder} cannot be locked: {error.strerror}") from error
        yield
