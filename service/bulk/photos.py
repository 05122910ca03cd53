"""Whether a result that is whole is still about the photos that its folders hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

import pyarrow.parquet as pq

from service.bulk.columns import printable
from service.bulk.inputs import STDIN, Inputs
from service.errors import BulkError


def check_photos(out: Path, inputs: Inputs, started: str) -> None:
    """See that each photo has its row, and is not newer than the answers.

    Args:
        out: the merged file.
        inputs: not gone through yet; standard input is compared by its digest alone.
        started: when the run began, ISO 8601.

    Raises:
        BulkError: naming the first photo that differs.
    """
    if STDIN in inputs.given:
        return
    began = datetime.fromisoformat(started).timestamp()
    for path, answered in zip_longest(map(os.fsdecode, inputs.paths()), _paths(out)):
        if path is None or answered is None or printable(path) != answered:
            told = f"{answered} is not there" if path is None else f"{path} is new or elsewhere"
        elif _changed(path) > began:
            told = f"{path} has changed"
        else:
            continue
        raise BulkError(
            f"expected the photos that {out} is about, and {told}: --restart writes it anew"
        )


def _paths(out: Path) -> Iterator[str]:
    with pq.ParquetFile(out) as file:
        for rows in file.iter_batches(columns=["path"]):
            yield from rows["path"].to_pylist()


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime  # noqa: PTH116 - a million of them
    except OSError:
        return 0.0  # its row says so
