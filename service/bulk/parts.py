"""A run's folder `OUT.parts`: its parts, each whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from service.bulk.plan import INPUTS, PLACES, PLAN, Plan, sync_folder
from service.errors import BulkError
from service.locks import LOCK

RUN = b"superbin.run"  # which run a file belongs to
MERGED = "merged*"  # what is about to take its name
PART = "chunk-{:06d}.parquet"
COMPRESSION = "zstd"


def parts_folder(out: Path) -> Path:
    """Where a run keeps what it has done so far."""
    return out.with_name(out.name + ".parts")


def part_of(folder: Path, chunk: int) -> Path:
    """Where a chunk's rows are once it is done."""
    return folder / PART.format(chunk)


def write_part(folder: Path, plan: Plan, chunk: int, rows: pa.Table) -> None:
    """Write a chunk's rows so that they are there whole, or not at all.

    Raises:
        BulkError: where they cannot be written, on a full disk for example.
    """
    marked = rows.replace_schema_metadata({RUN: plan.run.encode()})
    path = part_of(folder, chunk)
    write_whole(path, lambda file: pq.write_table(marked, file, compression=COMPRESSION))


def is_done(folder: Path, plan: Plan, chunk: int) -> bool:
    """Whether a chunk's part is there, whole and of this run."""
    path = part_of(folder, chunk)
    try:
        with pq.ParquetFile(path) as part:
            rows, metadata = part.metadata.num_rows, part.schema_arrow.metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return bool(rows == plan.size(chunk) and metadata.get(RUN) == plan.run.encode())


def bad_in(folder: Path, chunk: int) -> int:
    """Photos of a part that is done which were bad."""
    with pq.ParquetFile(part_of(folder, chunk)) as part:
        errors = part.read(columns=["error"])["error"]
    return len(errors) - int(errors.null_count)


def clear(folder: Path, *, keep_lock: bool = False) -> None:
    """Remove a run's files and no others; the plan goes first, so that no plan lacks its files.

    Args:
        keep_lock: where the work goes on; else the lock goes after everything, while it is held.
    """
    if (plan := folder / PLAN).exists():
        plan.unlink()
        sync_folder(folder)
    for name in ("*.parquet", "*.tmp", MERGED, INPUTS, PLACES, *(() if keep_lock else (LOCK,))):
        for path in folder.glob(name):
            path.unlink(missing_ok=True)
    if not keep_lock:
        try:
            folder.rmdir()
        except OSError:  # somebody keeps something there
            return


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that it is there whole, or not at all.

    Raises:
        BulkError: where it cannot be written, on a full disk for example.
    """
    part = path.with_name(path.name + ".tmp")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:  # Arrow's own are OSErrors too
        part.unlink(missing_ok=True)
        raise BulkError(
            f"cannot write {path}: {error.strerror or error}. What was done before is kept: the "
            "same command goes on from there"
        ) from error
