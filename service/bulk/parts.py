"""A run's folder `OUT.parts`: its parts, each whole or not there, and their merging."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from service.bulk.counts import Counts, count
from service.bulk.plan import INPUTS, PLAN, Plan, sync_folder
from service.errors import BulkError
from service.locks import LOCK

OURS = "superbin."  # what a file's metadata of ours begin with
RUN = b"superbin.run"  # which run a file belongs to
MERGED = "merged"
PART = "chunk-{:06d}.parquet"
COMPRESSION = "zstd"
ROW_GROUP = 16_384  # rows at least, in the merged file; the last group may have fewer


def parts_folder(out: Path) -> Path:
    """Where a run keeps what it has done so far."""
    return out.with_name(out.name + ".parts")


def write_part(folder: Path, plan: Plan, chunk: int, rows: pa.Table) -> None:
    """Write a chunk's rows so that they are there whole, or not at all.

    Raises:
        BulkError: where they cannot be written, on a full disk for example.
    """
    marked = rows.replace_schema_metadata({RUN: plan.run.encode()})
    path = folder / PART.format(chunk)
    _write_whole(path, lambda file: pq.write_table(marked, file, compression=COMPRESSION))


def is_done(folder: Path, plan: Plan, chunk: int) -> bool:
    """Whether a chunk's part is there, whole and of this run."""
    path = folder / PART.format(chunk)
    try:
        with pq.ParquetFile(path) as part:
            rows, metadata = part.metadata.num_rows, part.schema_arrow.metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return bool(rows == plan.size(chunk) and metadata.get(RUN) == plan.run.encode())


def bad_in(folder: Path, chunk: int) -> int:
    """Photos of a part that is done which were bad."""
    with pq.ParquetFile(folder / PART.format(chunk)) as part:
        errors = part.read(columns=["error"])["error"]
    return len(errors) - int(errors.null_count)


def merge(folder: Path, plan: Plan, to: pa.Schema, out: Path) -> None:
    """Stream all parts into one file, which then takes its name at once.

    Raises:
        BulkError: where it cannot be written.
    """
    counts = count(folder / PART.format(chunk) for chunk in plan.chunks)
    marked = to.with_metadata(_metadata(plan, counts))

    def write(file: IO[bytes]) -> None:
        with pq.ParquetWriter(file, marked, compression=COMPRESSION) as writer:
            for group in _row_groups(folder, plan):
                writer.write_table(group.replace_schema_metadata(marked.metadata))

    _write_whole(folder / MERGED, write)
    try:
        os.replace(folder / MERGED, out)  # noqa: PTH105 - over a file that is there
        sync_folder(out.parent)
    except OSError as error:
        raise BulkError(f"cannot write {out}: {error.strerror}") from error


def metadata_of(out: Path) -> dict[str, str]:
    """What a merged file says of itself; empty where there is none, or it is not ours."""
    try:
        with pq.ParquetFile(out) as file:
            found = file.schema_arrow.metadata or {}
    except (OSError, pa.ArrowException):
        return {}
    return {
        key.decode().removeprefix(OURS): value.decode()
        for key, value in found.items()
        if key.startswith(OURS.encode())
    }


def clear(folder: Path, *, keep_lock: bool = False) -> None:
    """Remove a run's files and no others; the plan goes last, so that no plan lacks its parts.

    Args:
        keep_lock: where the work goes on; else the lock goes after everything, while it is held.
    """
    for name in ("*.parquet", "*.tmp", MERGED, INPUTS, PLAN, *(() if keep_lock else (LOCK,))):
        for path in folder.glob(name):
            path.unlink(missing_ok=True)
    if not keep_lock:
        try:
            folder.rmdir()
        except OSError:  # somebody keeps something there
            return


def _row_groups(folder: Path, plan: Plan) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for chunk in plan.chunks:
        with pq.ParquetFile(folder / PART.format(chunk)) as part:
            waiting.append(part.read(use_threads=False))
        if sum(map(len, waiting)) >= ROW_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _metadata(plan: Plan, counts: Counts) -> dict[str, str]:
    """What the merged file says of itself; nothing of the machine that it was made on."""
    told = {
        "run": plan.run,
        "source": plan.source,
        "model": plan.model.name,
        "version": plan.model.version,
        "variant": plan.model.variant,
        "sha256": plan.model.sha256,
        "manifest_sha256": plan.model.manifest_sha256,
        "settings": json.dumps(plan.settings),
        "started": plan.started.isoformat(),
        "photos": str(plan.photos),
        "left_out": json.dumps(plan.left_out),
        "counts": counts.model_dump_json(),
    }
    return {OURS + name: value for name, value in told.items()}


def _write_whole(path: Path, write: Callable[[IO[bytes]], None]) -> None:
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
