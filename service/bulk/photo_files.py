"""What a photo's file tells without being opened: when it became what it is, and its size."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from typing import NamedTuple


class About(NamedTuple):
    """Of one file; of one that is not there neither is known, and its row says so.

    A photo's own time (mtime) tells nothing: it may be older than its place here (`cp -p`,
    `rsync -t`, `mv`), and of a camera whose clock is ahead it is still to come. Each change of a
    file, and of that time, sets its inode's (ctime).
    """

    changed: float = 0.0  # it, or a link that it is; seconds since the epoch
    size: int = -1  # bytes


def about(path: bytes) -> About:
    """Of the file that a path leads to."""
    try:
        found = os.lstat(path)
        changed = found.st_ctime
        if stat.S_ISLNK(found.st_mode):
            found = os.stat(path)  # noqa: PTH116 - a million of them
            changed = max(changed, found.st_ctime)
    except OSError:
        return About()
    return About(changed, found.st_size)


class Sizes:
    """A digest of photos' sizes in their order.

    Folders that are renamed into each other's places keep all times of their photos, and so does
    another disk that is mounted in the place of the first. Inodes would tell them apart as well,
    but some file systems number them anew with each mount.
    """

    def __init__(self) -> None:
        """Of no photo yet."""
        self._digest = sha256()

    def add(self, size: int) -> None:
        """The next photo's, in bytes; -1 of one that is not there."""
        self._digest.update(size.to_bytes(8, "little", signed=True))

    def told(self) -> str:
        """In hexadecimal."""
        return self._digest.hexdigest()
