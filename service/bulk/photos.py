"""Whether a result that is whole is still about the photos that its folders hold."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby, zip_longest
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from service.bulk.inputs import STDIN, Inputs, in_order
from service.bulk.merged import path_in, paths_of
from service.bulk.photo_files import About, Sizes, about
from service.errors import BulkError

NEW, GONE, CHANGED = "new", "gone", "changed"
ONE = {NEW: "is", GONE: "is", CHANGED: "has"}
MANY = {NEW: "are", GONE: "are", CHANGED: "have"}


class Found(NamedTuple):
    """A photo that there is."""

    path: bytes
    row: int  # how many rows come before it
    has_row: bool
    about: About


def check_photos(out: Path, inputs: Inputs, there: dict[str, str]) -> None:
    """See that each photo has its row, and is not newer than the answers.

    Args:
        out: the merged file.
        inputs: not gone through yet; standard input is compared by its digest alone.
        there: what the file says of itself.

    Raises:
        BulkError: naming what is gone, new or changed.
    """
    if STDIN in inputs.given:
        return
    began, sizes = _began(there), Sizes()
    for path, answered in zip_longest(inputs.paths(), paths_of(out)):
        if path is None or _shown(out, path) != answered:
            break
        file = about(path)
        if file.changed > began:
            break
        sizes.add(file.size)
    else:
        _check_sizes(out, sizes, there)
        return
    told, kinds = _told(_differing(out, Inputs(inputs.given), began))
    only_new = "--add adds what is new, " if kinds == {NEW} else ""
    raise BulkError(f"{_expected(out)}, and {told}: {only_new}--restart writes it anew")


def beside_rows(out: Path, inputs: Inputs, there: dict[str, str]) -> Iterator[Found]:
    """Each photo that there is, with a row or without.

    Args:
        out: the merged file.
        inputs: not gone through yet; no standard input.
        there: what the file says of itself.

    Raises:
        BulkError: at the end at the latest, naming what is gone or changed.
    """
    began, sizes = _began(there), Sizes()
    rows = paths_of(out)
    row, answered = 0, next(rows, None)
    for path in inputs.paths():
        has_row = answered is not None and _shown(out, path) == answered
        file = about(path)
        if has_row and file.changed > began:
            break
        yield Found(path, row, has_row, file)
        if has_row:
            sizes.add(file.size)
            row, answered = row + 1, next(rows, None)
    else:
        if answered is None:
            _check_sizes(out, sizes, there)
            return
    told, _ = _told(_differing(out, Inputs(inputs.given), began))
    raise BulkError(
        f"{_expected(out)}, and {told}: --add keeps all rows, and only where their photos are "
        "there as they were. --restart writes it anew; or list what is new, and give that a file "
        "of its own"
    )


def _began(there: dict[str, str]) -> float:
    return datetime.fromisoformat(there["started"]).timestamp()


def _check_sizes(out: Path, sizes: Sizes, there: dict[str, str]) -> None:
    if sizes.told() != there["sizes"]:
        raise BulkError(
            f"{_expected(out)}, and some that have not changed have another size now, as if "
            "folders had been renamed into each other's places or another disk were mounted there: "
            "--restart writes it anew"
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
        if rows and any(about(photo).changed > began for photo in there):
            yield CHANGED, path.decode()
        if len(there) != rows:
            yield NEW if len(there) > rows else GONE, path.decode()
