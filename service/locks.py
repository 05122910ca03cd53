"""Folders in which one process at a time is at work, or several are until the last has ended."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from service.errors import FolderBusy

LOCK = "lock"
FOLDER_ITSELF = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the one process at work on a folder; the system lets go where a process is killed.

    Whoever holds it may remove the file, and the folder, as the last thing that they do there.

    Raises:
        FolderBusy: where another one is at it, or the folder cannot be made.
    """
    file = _take(folder)
    while not _is_there(file, folder):  # who held it before has removed it meanwhile
        file.close()
        file = _take(folder)
    with file:
        yield


def _take(folder: Path) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise FolderBusy(f"cannot write into {folder.parent}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if isinstance(error, BlockingIOError):
            raise FolderBusy(f"another process is at work on {folder}") from error
        raise FolderBusy(f"{folder} cannot be locked: {error.strerror}") from error
    return file


def _is_there(file: IO[str], folder: Path) -> bool:
    """Whether others that want to be at work would open the same file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), (folder / LOCK).stat())
    except FileNotFoundError:
        return False


@contextmanager
def used(folder: Path) -> Iterator[None]:
    """Keep others from removing a folder; the system lets go where a process is killed.

    Raises:
        FileNotFoundError: where it is gone, or goes meanwhile.
    """
    held = os.open(folder, FOLDER_ITSELF)
    try:
        with suppress(OSError):  # where folders cannot be locked none is removed either
            fcntl.flock(held, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(held), folder.lstat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
        yield
    finally:
        os.close(held)


def remove_unused(folder: Path) -> None:
    """Remove a folder of this user's that no process has `used`; anything else stays."""
    try:
        held = os.open(folder, FOLDER_ITSELF)
    except OSError:  # gone, no folder, a link, or another user's
        return
    try:
        if os.fstat(held).st_uid == os.geteuid():
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        return  # it is used, or cannot be locked
    finally:
        os.close(held)
