"""Whether a result that is whole is still about the photos that its folders hold."""

from __future__ import annotations

import heapq
import os
import stat
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby, zip_longest
from operator import itemgetter
from pathlib import Path

from service.bulk.inputs import STDIN, Inputs, in_order
from service.bulk.merged import path_in, paths_of
from service.errors import BulkError

NEW, GONE, CHANGED = "new", "gone", "changed"
ONE = {NEW: "is", GONE: "is", CHANGED: "has"}
MANY = {NEW: "are", GONE: "are", CHANGED: "have"}


def check_photos(out: Path, inputs: Inputs, started: str) -> None:
    """See that each photo has its row, and is not newer than the answers.

    Args:
        out: the merged file.
        inputs: not gone through yet; standard input is compared by its digest alone.
        started: when the run began, ISO 8601.

    Raises:
        BulkError: naming what is gone, new or changed.
    """
    if STDIN in inputs.given:
        return
    began = datetime.fromisoformat(started).timestamp()
    for path, answered in zip_longest(inputs.paths(), paths_of(out)):
        is_its_row = path is not None and _shown(out, path) == answered
        if not is_its_row or changed_at(path) > began:
            break
    else:
        return
    told, kinds = _told(_differing(out, Inputs(inputs.given), began))
    only_new = "--add adds what is new, " if kinds == {NEW} else ""
    raise BulkError(f"{_expected(out)}, and {told}: {only_new}--restart writes it anew")


def beside_rows(out: Path, inputs: Inputs, started: str) -> Iterator[tuple[bytes, int, bool]]:
    """Each photo that there is, how many rows come before it, and whether it has one itself.

    Args:
        out: the merged file.
        inputs: not gone through yet; no standard input.
        started: when the run began, ISO 8601.

    Raises:
        BulkError: at the end at the latest, naming what is gone or changed.
    """
    began = datetime.fromisoformat(started).timestamp()
    rows = paths_of(out)
    row, answered = 0, next(rows, None)
    for path in inputs.paths():
        is_there = answered is not None and _shown(out, path) == answered
        if is_there and changed_at(path) > began:
            break
        yield path, row, is_there
        if is_there:
            row, answered = row + 1, next(rows, None)
    else:
        if answered is None:
            return
    told, _ = _told(_differing(out, Inputs(inputs.given), began))
    raise BulkError(
        f"{_expected(out)}, and {told}: --add keeps all rows, and only where their photos are "
        "there as they were. --restart writes it anew; or list what is new, and give that a file "
        "of its own"
    )


def _expected(out: Path) -> str:
    return f"expected the photos that {out} is about"


def _shown(out: Path, path: bytes) -> str:
    return path_in(out, os.fsdecode(path))


def _told(differing: Iterator[tuple[str, str]]) -> tuple[str, set[str]]:
    """`a.jpg is gone and 3 are new, the first b.jpg`, of any number of photos; and which kinds."""
    first: dict[str, str] = {}
    count: Counter[str] = Counter()
    for change, path in differing:
        first.setdefault(change, path)
        count[change] += 1
    told = [
        f"{first[change]} {ONE[change]} {change}"
        if n == 1
        else f"{n:,} {MANY[change]} {change}, the first {first[change]}"
        for change, n in sorted(count.items())
    ]
    return " and ".join(told) or "their order is another", set(count)


def _differing(out: Path, inputs: Inputs, began: float) -> Iterator[tuple[str, str]]:
    """Each photo that is new, gone or changed, and its path; both sides in the order of bytes."""
    shown = (_shown(out, path).encode() + b"\0" + path for path in inputs.paths())
    now = (entry.partition(b"\0") for entry in in_order(shown))
    before = ((path, b"", b"") for path in in_order(path.encode() for path in paths_of(out)))
    for path, those in groupby(heapq.merge(now, before), itemgetter(0)):
        both = [photo for _, _, photo in those]
        there = [photo for photo in both if photo]
        rows = len(both) - len(there)
        if rows and any(changed_at(photo) > began for photo in there):
            yield CHANGED, path.decode()
        if len(there) != rows:
            yield NEW if len(there) > rows else GONE, path.decode()


def changed_at(path: bytes) -> float:
    """When it, or a link that it is, became what it is.

    A photo's own time (mtime) tells nothing of that: it may be older than its place here (`cp -p`,
    `rsync -t`, `mv`), and of a camera whose clock is ahead it is still to come. Each change of a
    file, and of that time, sets its inode's (ctime).
    """
    try:
        about = os.lstat(path)
        changed = about.st_ctime
        if stat.S_ISLNK(about.st_mode):
            changed = max(changed, os.stat(path).st_ctime)  # noqa: PTH116 - a million of them
    except OSError:
        return 0.0  # its row says so
    return changed
