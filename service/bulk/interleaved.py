"""Rows of a file that is whole and new ones among them, each where its photo stands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from service.bulk.reading import batches, readable

T = TypeVar("T")
Places = npt.NDArray[np.int64]  # [new rows]: how many of the old rows come before each


def interleaved(old: Iterator[T], new: Iterable[T], places: Places) -> Iterator[T]:
    """One by one."""
    gone_by = 0
    for place, one in zip(places.tolist(), new, strict=True):
        yield from islice(old, place - gone_by)
        gone_by = place
        yield one
    yield from old


def interleaved_tables(
    old: Sequence[Path], new: Sequence[Path], places: Places, size: int
) -> Iterator[pa.Table]:
    """Tables of `size` rows, the last of fewer; no more is in memory at a time.

    Args:
        old: Parquet files.
        new: Parquet files with the same columns.
        places: of the new rows.
        size: rows at a time.
    """
    of_old, of_new = Rows(old), Rows(new)
    at = places + np.arange(len(places))  # where each new row stands in the end
    for start in range(0, of_old.count + of_new.count, size):
        end = min(start + size, of_old.count + of_new.count)
        first, last = np.searchsorted(at, [start, end])
        is_new = np.zeros(end - start, bool)
        is_new[at[first:last] - start] = True
        rows = [of_old.take(int((~is_new).sum())), of_new.take(int(last - first))]
        # A row of `order` is its place in these two, one after the other.
        order = np.empty(end - start, np.int64)
        order[~is_new] = np.arange(len(rows[0]))
        order[is_new] = np.arange(len(rows[0]), end - start)
        yield pa.concat_tables(rows).combine_chunks().take(order)


class Rows:
    """The rows of Parquet files, to be taken so many at a time."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Count them; they are read as they are taken."""
        self.count = 0
        for path in paths:
            with readable(path):
                self.count += pq.read_metadata(path).num_rows
        self._batches = _batches(paths)
        self._left = pq.read_schema(paths[0]).remove_metadata().empty_table()

    def take(self, count: int) -> pa.Table:
        """The next of them, of which there are as many."""
        tables, missing = [self._left], count - len(self._left)
        while missing > 0:
            tables.append(next(self._batches))
            missing -= len(tables[-1])
        rows = pa.concat_tables(tables)
        self._left = rows.slice(count)
        return rows.slice(0, count)


def _batches(paths: Iterable[Path]) -> Iterator[pa.Table]:
    for path in paths:
        for rows in batches(path):
            yield pa.Table.from_batches([rows]).replace_schema_metadata(None)
