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
    for path, answered in zip_longest(map(os.fsdecode, inputs.paths()), paths_of(out)):
        if path is None or answered is None or path_in(out, path) != answered:
            told = _told(_differing(out, Inputs(inputs.given)))
        elif _changed(path) > began:
            told = f"{path} has changed"
        else:
            continue
        raise BulkError(
            f"expected the photos that {out} is about, and {told}: --restart writes it anew"
        )


def _told(differing: Iterator[tuple[str, str]]) -> str:
    """`a.jpg is gone and 3 are new, the first b.jpg`, of any number of photos."""
    first: dict[str, str] = {}
    count: Counter[str] = Counter()
    for change, path in differing:
        first.setdefault(change, path)
        count[change] += 1
    told = [
        f"{first[change]} is {change}"
        if n == 1
        else f"{n:,} are {change}, the first {first[change]}"
        for change, n in sorted(count.items())
    ]
    return " and ".join(told) or "their order is another"


def _differing(out: Path, inputs: Inputs) -> Iterator[tuple[str, str]]:
    """Each photo that is `gone` or `new`, and its path; both sides in the order of bytes."""
    now = in_order(path_in(out, os.fsdecode(path)).encode() for path in inputs.paths())
    before = in_order(path.encode() for path in paths_of(out))
    both = heapq.merge(((path, 1) for path in now), ((path, -1) for path in before))
    for path, places in groupby(both, itemgetter(0)):
        more = sum(place for _, place in places)
        if more:
            yield "new" if more > 0 else "gone", path.decode()


def _changed(path: str) -> float:
    """When it, or a link that it is, became what it is.

    A photo's time may be older than its place here (`cp -p`, `rsync -t`, `mv`), and its inode's
    cannot.
    """
    try:
        about = os.lstat(path)
        times = [about.st_mtime, about.st_ctime]
        if stat.S_ISLNK(about.st_mode):
            about = os.stat(path)  # noqa: PTH116 - a million of them
            times += [about.st_mtime, about.st_ctime]
    except OSError:
        return 0.0  # its row says so
    return max(times)
