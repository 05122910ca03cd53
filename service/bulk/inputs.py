"""Which photos are meant: folders, lists of paths and single photos, as a stream in a stable order.

Paths are bytes, as the file system has them. However many there are, few are held at a time.
"""

from __future__ import annotations

import codecs
import hashlib
import heapq
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from functools import cache
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from PIL import Image

from service.errors import BulkError
from service.preprocess import FORMATS

STDIN = "-"
SORTED_IN_MEMORY = 50_000  # names of one folder; more are sorted by way of the disk
LINKS = "links to folders"
T = TypeVar("T")


@cache
def suffixes() -> frozenset[str]:
    """Of the formats that are read, in lower case and with their dot."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, format in known.items() if format in FORMATS)


def is_photo(path: str) -> bool:
    """Whether a file's name says so."""
    return os.path.splitext(path)[1].lower() in suffixes()  # noqa: PTH122 - a million of them


class Inputs:
    """What was named on the command line; `paths` or `digest` goes through it, once.

    Attributes:
        left_out: files in folders that are no photos by their suffix, counted by it.
    """

    def __init__(self, given: Sequence[str]) -> None:
        """Look at what there is.

        Args:
            given: folders, lists (text files with a path a line, `-` for standard input), photos.

        Raises:
            BulkError: where one is not there.
        """
        self.given = given
        self.left_out: Counter[str] = Counter()
        self._digest = hashlib.sha256()
        self._here_noted = False
        self._read = False
        for one in given:
            if one != STDIN and not is_photo(one) and not os.path.exists(one):  # noqa: PTH110
                raise BulkError(
                    f"expected a folder, a list of paths or a photo, and {one!r} is not there"
                )

    def digest(self) -> str:
        """Tells one choice of inputs from another.

        Lists count with what is in them, folders by their place alone: what a folder held when a
        run began is what the run is about. Relative names are nothing without the folder that
        they are seen from, so with the first of them that counts too.
        """
        if not self._read:
            for _ in self.paths(scan=False):
                pass
        return self._digest.hexdigest()

    def paths(self, *, scan: bool = True) -> Iterator[bytes]:
        """Each photo's path, in the order of what was named; folders in the order of names.

        Args:
            scan: False leaves folders' photos out, for `digest`.

        Raises:
            BulkError: where a folder or list cannot be read, or has no photos.
        """
        for one in self.given:
            if one != STDIN and os.path.isdir(one):  # noqa: PTH112
                self._note(b"folder", os.fsencode(os.path.join(one, "")))  # noqa: PTH118
                if scan:
                    yield from self._expected(self._folder(os.fsencode(one)), one)
            elif one != STDIN and is_photo(one):
                self._note(b"photo", os.fsencode(one))
                yield os.fsencode(one)
            else:
                yield from self._expected(self._list(one), one)
        self._read = True

    def _note(self, kind: bytes, path: bytes) -> None:
        if not self._here_noted and not os.path.isabs(path):  # noqa: PTH117 - a million of them
            self._here_noted = True
            self._note(b"from", bytes(Path.cwd()))
        self._digest.update(b"%s %d %s\n" % (kind, len(path), path))

    def _expected(self, paths: Iterator[bytes], source: str) -> Iterator[bytes]:
        first = next(paths, None)
        if first is None:
            if source != STDIN and os.path.isdir(source):  # noqa: PTH112
                found = told_left_out(self.left_out) or "nothing"
                raise BulkError(
                    f"expected photos ({', '.join(sorted(suffixes()))}) in the folder {source}, "
                    f"got {found}"
                )
            raise BulkError(f"expected a path a line in the list {source}, got an empty one")
        yield first
        yield from paths

    def _list(self, source: str) -> Iterator[bytes]:
        try:
            with (
                nullcontext(sys.stdin.buffer)
                if source == STDIN
                else Path(source).open("rb") as file
            ):
                for number, line in enumerate(file):
                    if number == 0:
                        line = line.removeprefix(codecs.BOM_UTF8)
                    if b"\0" in line:
                        known = ", ".join(sorted(suffixes()))
                        raise BulkError(
                            f"expected a text file with a path a line, and {source} is binary; "
                            f"a photo has one of the suffixes {known}"
                        )
                    if path := line.rstrip(b"\r\n"):
                        self._note(b"listed", path)
                        yield path
        except OSError as error:
            raise BulkError(f"the list {source} cannot be read: {error.strerror}") from error

    def _folder(self, folder: bytes) -> Iterator[bytes]:
        try:
            for entry in in_order(self._entries(folder)):
                path = os.path.join(folder, entry[1:])  # noqa: PTH118
                if entry.startswith(b"d"):
                    yield from self._folder(path)
                else:
                    yield path
        except OSError as error:
            raise BulkError(
                f"the folder {os.fsdecode(error.filename or folder)} cannot be read: "
                f"{error.strerror}"
            ) from error

    def _entries(self, folder: bytes) -> Iterator[bytes]:
        """`f` or `d` and the name, of photos and of folders; what else there is, is counted."""
        with os.scandir(folder) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.endswith((b".parquet.parts", b".csv.parts")):  # a run's own
                        yield b"d" + entry.name
                elif is_photo(name := os.fsdecode(entry.name)) and not entry.is_dir():
                    yield b"f" + entry.name
                else:
                    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
                    self.left_out[LINKS if entry.is_dir() else suffix or "no suffix"] += 1


def told_left_out(left_out: Counter[str] | dict[str, int]) -> str:
    """`12 .txt, 3 .heic`, the most frequent first; empty where there are none."""
    return ", ".join(f"{count:,} {suffix}" for suffix, count in Counter(left_out).most_common(5))


def in_order(entries: Iterable[bytes]) -> Iterator[bytes]:
    """Sorted, by way of temporary files where they are many (an external merge sort)."""
    entries = iter(entries)
    run = sorted(islice(entries, SORTED_IN_MEMORY))
    if len(run) < SORTED_IN_MEMORY:
        yield from run
        return
    with ExitStack() as stack:
        runs = []
        while run:
            file = stack.enter_context(tempfile.TemporaryFile())
            file.writelines(len(entry).to_bytes(4, "big") + entry for entry in run)
            file.seek(0)
            runs.append(_written(file))
            run = sorted(islice(entries, SORTED_IN_MEMORY))
        yield from heapq.merge(*runs)


def _written(file: BinaryIO) -> Iterator[bytes]:
    while head := file.read(4):
        yield file.read(int.from_bytes(head, "big"))


def in_groups(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size`; the last may have fewer."""
    things = iter(things)
    while group := list(islice(things, size)):
        yield group
