"""Rows of Parquet files; one that is damaged is told from a place that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from service.errors import BulkError

BATCH = 4096  # rows


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """See that a file of rows can be read.

    Raises:
        BulkError: where it cannot, or is damaged.
    """
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:  # Arrow's are of all kinds
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise BulkError(f"{path} cannot be read: --restart writes it anew ({why})") from error


def batches(
    path: Path, columns: Sequence[str] | None = None, size: int = BATCH
) -> Iterator[pa.RecordBatch]:
    """A file's rows, `size` at a time.

    Raises:
        BulkError: where it cannot be read.
    """
    with readable(path), pq.ParquetFile(path) as file:
        yield from file.iter_batches(size, columns=columns, use_threads=False)
