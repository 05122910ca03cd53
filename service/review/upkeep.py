"""The removal of what is past its days: rows, and on a full disk their files before them.

On a full disk no row can be removed, since that is written down first. So the files go, and the
rows as soon as there is room for it; until that a photo is listed, and missing.
"""

from __future__ import annotations

from service.review import clock, ownership, pruning
from service.review.database import Database
from service.review.figures import Pruned
from service.review.files import PhotoFiles
from service.review.records import Rules, StoreUnavailable

PAGE = 500


class Upkeep:
    """Of one store, by one process."""

    def __init__(self, database: Database, files: PhotoFiles, rules: Rules) -> None:
        """Nothing is looked at yet."""
        self._database, self._files, self._rules = database, files, rules
        self._seen: clock.Clock | None = None  # also where a full disk keeps it from the database

    def prune(self, now: float) -> Pruned:
        """Remove rows that are too old, unless the clock is doubted.

        Raises:
            StoreUnavailable: where that cannot be done now, though files may be gone.
        """
        try:
            return self._remove_rows(now)
        except StoreUnavailable as error:
            if not error.disk_full or not self._free(now):
                raise
        return self._remove_rows(now)

    def _remove_rows(self, now: float) -> Pruned:
        with self._database.write() as connection:
            self._seen = clock.look(connection, now)
            return pruning.prune(connection, self._rules, self._seen, now)

    def _free(self, now: float) -> int:
        """Remove the files of photos that are past their days; of how many photos."""
        self._seen = self._known(now).after(now)
        if self._seen.doubted is not None:
            return 0
        ownership.check_owned(self._database, self._files)
        freed, after, more = 0, 0, True
        while more:
            with self._database.write() as connection:  # so that nobody reviews one meanwhile
                page = pruning.past_days(connection, self._rules, now, after, PAGE)
                for _, sha256 in page:
                    self._files.remove(sha256)
            freed += len(page)
            more = len(page) == PAGE
            after = page[-1][0] if page else after
        return freed

    def _known(self, now: float) -> clock.Clock:
        with self._database.read() as connection:
            written = clock.read(connection, now)
        if self._seen is None or written.newest > self._seen.newest:
            return written
        return self._seen
