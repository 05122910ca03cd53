"""A folder for what is begun, or only for now: it goes with who made it, at the latest at the next.

A killed process cannot remove its own; the system lets go of its lock, and so the next one can.
Only marked folders are removed, and a folder is locked before it is marked: what somebody else
called alike stays, and so does one whose process lives.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK = ".superbin-short-lived"
CONTENT = "content"


@contextmanager
def short_lived(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder that only this user can read; those that killed processes left are removed.

    Where the file system has no locks it gets no mark: a killed process leaves it for good.

    Args:
        prefix: of its name, by which its like are known.
        parent: where it is made, and where others are looked for; by default the system's place.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    _remove_left(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    handle = _hold(folder)
    try:
        if handle is not None:
            (folder / MARK).touch()
        content = folder / CONTENT
        content.mkdir(mode=0o700)
        yield content
    finally:
        _remove(folder)
        if handle is not None:
            os.close(handle)


def _remove_left(parent: Path, prefix: str) -> None:
    for mark in parent.glob(f"{prefix}*/{MARK}"):
        handle = _hold(mark.parent)
        if handle is not None:
            _remove(mark.parent)
            os.close(handle)


def _remove(folder: Path) -> None:
    """The mark goes last, so that what is left by who is killed here is removed by the next."""
    shutil.rmtree(folder / CONTENT, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _hold(folder: Path) -> int | None:
    """Lock a folder; None where another process has it, it is not this user's, or it cannot be."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(handle).st_uid == os.getuid():
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
    except OSError:
        pass
    os.close(handle)
    return None
