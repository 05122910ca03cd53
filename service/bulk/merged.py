"""The merged file, Parquet or CSV by its suffix: how it is made, and what it says of itself.

A Parquet file says it in its metadata. A CSV file has no place for that, so another one is beside
it, with the SHA-256 by which it is seen whether somebody has changed the CSV since.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from service.bulk.columns import printable
from service.bulk.counts import Counts, count, together
from service.bulk.interleaved import interleaved, interleaved_tables
from service.bulk.parts import COMPRESSION, part_of, write_whole
from service.bulk.plan import Plan, sync_folder
from service.bulk.reading import batches, readable
from service.bulk.spreadsheet import cells_of, columns_of, read_csv, write_csv
from service.bundle import sha256_of
from service.composition.formats import harmless
from service.errors import BulkError

PARQUET, CSV = ".parquet", ".csv"
BESIDE = ".superbin.json"  # after a CSV file's name
OURS = "superbin."  # what a file's metadata of ours begin with
FILE_SHA256 = "file_sha256"
MERGED, TOLD = "merged", "merged.json"  # until they take their names
ROW_GROUP = 16_384  # rows at least; the last group may have fewer


def merge(folder: Path, plan: Plan, to: pa.Schema, out: Path) -> None:
    """Stream all parts into one file, which then takes its name at once.

    Where the run adds to the file that is there, its rows are kept, and new ones stand between
    them. Until the other has its name, that file is as it was.

    Raises:
        BulkError: where it cannot be written.
    """
    parts = [part_of(folder, chunk) for chunk in plan.chunks]
    told, merged = _metadata(plan, _counts(plan, parts, out)), folder / MERGED
    if out.suffix == CSV:
        columns = columns_of(to.names, by_site=plan.settings["site"] is not None)
        lines = cells_of(parts, columns)
        if plan.adds_to is not None:
            lines = interleaved(islice(read_csv(out), 1, None), lines, plan.places(folder))
        write_whole(merged, lambda file: write_csv(file, columns, lines))
        told[FILE_SHA256] = sha256_of(merged)
        write_whole(folder / TOLD, lambda file: file.write(json.dumps(told, indent=1).encode()))
        _take_name(merged, out)  # `finish` goes on after a kill here
        _take_name(folder / TOLD, _beside(out))
    else:
        tables = _row_groups(parts)
        if plan.adds_to is not None:
            tables = interleaved_tables([out], parts, plan.places(folder), ROW_GROUP)
        write_whole(merged, lambda file: _write_parquet(file, tables, to, told))
        _take_name(merged, out)


def finish(folder: Path, plan: Plan, out: Path) -> None:
    """Where a run's CSV has its name already, give what is said of it its own.

    Raises:
        BulkError: where it cannot be written.
    """
    try:
        told = json.loads((folder / TOLD).read_bytes())
    except FileNotFoundError:
        return
    if told["run"] == plan.run and out.exists() and sha256_of(out) == told[FILE_SHA256]:
        _take_name(folder / TOLD, _beside(out))


def metadata_of(out: Path) -> dict[str, str]:
    """What a merged file says of itself; empty where there is none, or it is not ours."""
    if out.suffix == CSV:
        return _told_beside(out) if out.exists() else {}
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


def is_as_left(out: Path, told: dict[str, str]) -> bool:
    """Whether a merged file is as a run of this version left it."""
    if not told.keys() >= {"counts", "sizes"}:
        return False
    if out.suffix == CSV:
        return sha256_of(out) == told.get(FILE_SHA256)
    return bool(pq.read_metadata(out).num_rows == int(told["photos"]))


def has_columns(out: Path, to: pa.Schema, *, by_site: bool) -> bool:
    """Whether a merged file has the columns that a run would write now."""
    if out.suffix == CSV:
        return next(read_csv(out)) == [*columns_of(to.names, by_site=by_site)]
    return bool(pq.read_schema(out).equals(to))


def paths_of(out: Path) -> Iterator[str]:
    """Each row's, as `path_in` has them."""
    if out.suffix == CSV:
        yield from (row[0] for row in islice(read_csv(out), 1, None))
        return
    for batch in batches(out, ["path"]):
        yield from batch["path"].to_pylist()


def path_in(out: Path, path: str) -> str:
    """A photo's path as it stands in a merged file."""
    return harmless(printable(path)) if out.suffix == CSV else printable(path)


def _write_parquet(
    file: IO[bytes], tables: Iterable[pa.Table], to: pa.Schema, told: dict[str, str]
) -> None:
    marked = to.with_metadata({OURS + name: value for name, value in told.items()})
    with pq.ParquetWriter(file, marked, compression=COMPRESSION) as writer:
        for group in tables:
            writer.write_table(group.replace_schema_metadata(marked.metadata))


def _counts(plan: Plan, parts: list[Path], out: Path) -> Counts:
    """Over all rows that there will be."""
    if plan.adds_to is None:
        return count(parts)
    return together(Counts.model_validate_json(metadata_of(out)["counts"]), count(parts))


def _row_groups(parts: list[Path]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    for path in parts:
        with readable(path), pq.ParquetFile(path) as part:
            waiting.append(part.read(use_threads=False))
        if sum(map(len, waiting)) >= ROW_GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _metadata(plan: Plan, counts: Counts) -> dict[str, str]:
    """What the merged file says of itself; nothing of the machine that it was made on."""
    return {
        "run": plan.run,
        "source": plan.source,
        "model": plan.model.name,
        "version": plan.model.version,
        "variant": plan.model.variant,
        "sha256": plan.model.sha256,
        "manifest_sha256": plan.model.manifest_sha256,
        "settings": json.dumps(plan.settings),
        "started": plan.started.isoformat(),
        "sizes": plan.sizes,
        "photos": str(plan.kept + plan.photos),
        "left_out": json.dumps(plan.left_out),
        "counts": counts.model_dump_json(),
    }


def _beside(out: Path) -> Path:
    return out.with_name(out.name + BESIDE)


def _told_beside(out: Path) -> dict[str, str]:
    try:
        found = json.loads(_beside(out).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _take_name(path: Path, name: Path) -> None:
    try:
        os.replace(path, name)  # noqa: PTH105 - over a file that is there
        sync_folder(name.parent)
    except OSError as error:
        raise BulkError(f"cannot write {name}: {error.strerror}") from error
