"""Chunks to tables in this process; the photos of the next are on the way while one is written."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import pyarrow as pa

from service.bulk.columns import schema, table
from service.bulk.inputs import in_groups
from service.bulk.plan import Plan
from service.bulk.stream import Stream
from service.classification import FileResult, answering_for
from service.results import Sorted
from service.sessions import open_sessions
from service.settings import Settings

ROWS = 256  # made columns of at once: objects take far more room
Seen = Callable[[int, int], None]  # photos and bad ones among them


class Station:
    """An open model, and the rows that it gives."""

    def __init__(self, bundle: Path, settings: Settings, by: Sorted | None = None) -> None:
        """Open the sessions, which takes a second.

        Raises:
            BundleError, ProviderError, SiteUnfit: where they cannot be.
        """
        sessions = open_sessions(settings, bundle, alone=False)
        manifest = sessions.first.bundle.manifest
        self.schema = schema(manifest.superclasses)
        self._model = f"{manifest.name}/{manifest.version}"
        answering = answering_for(manifest, settings, by, sessions.doubts)
        self._stream = Stream(sessions, answering, settings.max_batch)

    def tables(
        self, chunks: Iterator[Sequence[str]], sizes: Sequence[int], folder: Path, seen: Seen
    ) -> Generator[pa.Table, None, None]:
        """A table for each chunk.

        Args:
            chunks: the paths of each, taken as they are needed.
            sizes: how many there are in each.
            folder: what relative paths are relative to.
            seen: told as photos are done.
        """
        photos = (photo for chunk in chunks for photo in chunk)
        with closing(self._stream.results(photos, folder)) as results:
            for size in sizes:
                yield self._table(islice(results, size), seen)

    def _table(self, results: Iterator[FileResult], seen: Seen) -> pa.Table:
        rows = []
        for group in in_groups(results, ROWS):
            rows.append(table(group, self._model, self.schema))
            seen(len(group), sum(one.error is not None for one in group))
        return pa.concat_tables(rows)


def on_this_machine(
    station: Station,
    plan: Plan,
    folder: Path,
    chunks: Sequence[int],
    stop: Sequence[int],
    seen: Seen,
) -> Generator[tuple[int, pa.Table], None, None]:
    """Each chunk and its rows, in order; after the one in progress no more once there is a `stop`.

    Args:
        station: where they are answered.
        plan: of the run.
        folder: the run's.
        chunks: which to do.
        stop: not empty from when it is to stop.
        seen: told as photos are done.
    """
    paths = (plan.paths(folder, chunk) for chunk in chunks)
    sizes = [plan.size(chunk) for chunk in chunks]
    with closing(station.tables(paths, sizes, Path(), seen)) as tables:
        for chunk, rows in zip(chunks, tables, strict=False):
            yield chunk, rows
            if stop:
                return
