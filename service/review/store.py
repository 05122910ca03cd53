"""The review store: photos that a person is to look at, and what people said of them.

A photo's file is written under the hash of its bytes, then its row in a transaction; files are
removed after their rows are gone, save on a full disk (`service.review.upkeep`). A process that is
killed between any two steps leaves at most a file without a row, which the next start removes: such
files, and no others, are listed in the database (`service.review.leftovers`), and the photos belong
to one database alone (`service.review.ownership`). So a mistyped URL, a new database or an older
backup removes nothing.
Processes and threads may share a store; copies of a database must not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Self

import sqlalchemy as sa

from service.review import (
    agreement,
    arrivals,
    clock,
    counting,
    leases,
    leftovers,
    likeness,
    ownership,
    paging,
    rows,
    schema,
)
from service.review.cleaning import clean
from service.review.database import Database
from service.review.figures import Agreement, Counts, Progress, Pruned
from service.review.files import PhotoFiles
from service.review.records import (
    Added,
    Feedback,
    KeptPhoto,
    NewPhoto,
    ReviewedPhoto,
    Rules,
    SimilarPhoto,
    Verdict,
    Vote,
)
from service.review.upkeep import Upkeep
from service.review.votes import cast_vote, take_back

_photos = schema.photos


class Store:
    """An open store; every method may be called from any thread, and blocks."""

    def __init__(
        self,
        database: Database,
        files: PhotoFiles,
        rules: Rules,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Made by `service.review.opening`."""
        self.rules = rules
        self.database_name, self.photos_url = database.name, files.url
        self._database = database
        self._files = files
        self._now = now
        self._upkeep = Upkeep(database, files, rules)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    # Photos in.

    def add(self, photo: NewPhoto) -> Added:
        """Keep a clean copy of a photo; once this returns it outlives a crash.

        The same bytes are kept once, whoever sends them. What its client said since it was answered
        is counted as a vote now.

        Raises:
            PhotoError: where it does not decode.
            StoreFull: where reviewed photos fill the store.
            StoreUnavailable: where it cannot be kept now.
        """
        copy = clean(photo.data, self.rules)
        return arrivals.keep(self._database, self._files, photo, copy, self.rules, self._now())

    # Review.

    def take(
        self, reviewer: str, limit: int = 1, *, skipped: bool = False, after: int = 0
    ) -> list[KeptPhoto]:
        """The next photos for a reviewer, who alone has them until the lease runs out.

        Args:
            limit: of photos that they hold at once.
            skipped: those that they skipped before, too.
            after: only photos whose id is greater.

        Raises:
            StoreUnavailable: where the database is away.
        """
        with self._database.write() as connection:
            which = leases.for_reviewer(reviewer, skipped) & (_photos.c.id > after)
            now = self._now()
            found = leases.take(connection, reviewer, which, limit, now, now + self.rules.lease_s)
        return [rows.kept_photo(row, self._files.read) for row in found]

    def release(self, reviewer: str) -> None:
        """Let others have what a reviewer holds."""
        with self._database.write() as connection:
            leases.release(connection, reviewer)

    def skip(self, photo_id: int, reviewer: str) -> None:
        """Leave a photo to others, and to this reviewer for later.

        Raises:
            PhotoGone, StoreUnavailable: where it is not there, or that is not to be known.
        """
        with self._database.write() as connection:
            rows.find_photo(connection, photo_id)
            leases.skip(connection, photo_id, reviewer)

    def review(self, photo_id: int, reviewer: str, verdict: Verdict) -> None:
        """Record what a reviewer says; the same again changes nothing, another replaces it.

        Raises:
            PhotoGone, StoreUnavailable: where it is not there, or cannot be recorded now.
        """
        with self._database.write() as connection:
            now = clock.dated(connection, self._now())
            cast_vote(connection, photo_id, reviewer, verdict, "review", now)
            leases.release(connection, reviewer, photo_id)

    def undo(self, photo_id: int, reviewer: str) -> bool:
        """Take back what a reviewer said, or that they skipped it, and give them the photo again.

        Returns:
            whether there was anything to take back.

        Raises:
            PhotoGone, StoreUnavailable: as `review`.
        """
        with self._database.write() as connection:
            rows.find_photo(connection, photo_id)
            until = self._now() + self.rules.lease_s
            unskipped = leases.unskip(connection, photo_id, reviewer)
            undone = take_back(connection, photo_id, reviewer, self._now())
            leases.lease(connection, photo_id, reviewer, self._now(), until)
        return undone or unskipped

    def feedback(
        self,
        request_id: str,
        position: int,
        reviewer: str,
        verdict: Verdict,
        client: str | None = None,
    ) -> Feedback:
        """Record what a client says of a photo that it sent.

        Where the photo is not kept, or is still on its way, the verdict alone is; it becomes a vote
        if a photo comes that was answered before.

        Args:
            client: whose photos it may be of, beside those of nobody; None where of everybody's.

        Raises:
            PhotoAmbiguous: where several photos of theirs are in that place.
            StoreUnavailable: where it cannot be recorded now.
        """
        with self._database.write() as connection:
            now = clock.dated(connection, self._now())
            return arrivals.take_feedback(
                connection, request_id, position, reviewer, verdict, now, client
            )

    # Photos out.

    def photo(self, photo_id: int) -> KeptPhoto:
        """One photo.

        Raises:
            PhotoGone, StoreUnavailable: where it is not there, or that is not to be known.
        """
        with self._database.read() as connection:
            return rows.kept_photo(rows.find_photo(connection, photo_id), self._files.read)

    def similar(self, photo_id: int, most: int) -> list[SimilarPhoto]:
        """Reviewed photos that are most like a photo to its model, at most `most`, nearest first.

        Raises:
            PhotoGone, StoreUnavailable: as `photo`.
        """
        with self._database.read() as connection:
            return likeness.most_similar(connection, rows.find_photo(connection, photo_id), most)

    def photos(self) -> Iterator[KeptPhoto]:
        """Every photo, reviewed or not, oldest first."""
        for page in paging.pages(self._database, sa.true()):
            for row in page:
                yield rows.kept_photo(row, self._files.read)

    def reviewed_floor(self, newest: int) -> int:
        """The id below the `newest` reviewed photos, for `reviewed(after=...)`."""
        return paging.floor(self._database, paging.usable(), newest)

    def reviewed(self, *, after: int = 0) -> Iterator[ReviewedPhoto]:
        """Every photo whose superclass people have settled, oldest first, held-out ones too.

        Args:
            after: only photos whose id is greater.
        """
        return paging.reviewed(self._database, self._files.read, after)

    def no_refuse(self, newest: int | None = None) -> Iterator[KeptPhoto]:
        """Every photo that people have settled as no refuse, oldest first, held-out ones too.

        Args:
            newest: no more than so many, of the newest.
        """
        after = 0
        if newest is not None:
            after = paging.floor(self._database, paging.no_refuse(), newest)
        return paging.foreign(self._database, self._files.read, after)

    def said_by(self, reviewer: str, most: int) -> list[tuple[KeptPhoto, Vote]]:
        """What a reviewer said and has not taken back, at most `most`, the newest first."""
        return paging.said_by(self._database, self._files.read, reviewer, most)

    def found(self, sha256: str) -> tuple[KeptPhoto, Verdict | None, list[Vote]]:
        """A photo by its hash, what people have settled of it, and what they said, oldest first.

        Raises:
            PhotoGone, StoreUnavailable: as `photo`.
        """
        return paging.found(self._database, self._files.read, sha256)

    def agreement(self) -> Agreement:
        """How far reviewers agree on the photos that several of them were asked about."""
        with self._database.read() as connection:
            return agreement.measure(connection)

    def counts(self) -> Counts:
        """How much there is."""
        with self._database.read() as connection:
            return counting.counts(connection)

    def kinds(self, most: int = 500) -> list[str]:
        """Kinds that people have told of settled photos, those of the most photos first."""
        with self._database.read() as connection:
            return counting.kinds(connection, most)

    def progress(self, reviewer: str, since: float) -> Progress:
        """One reviewer's; `since` is when today began, in seconds since 1970."""
        with self._database.read() as connection:
            return counting.progress(connection, reviewer, since, self._now())

    # Upkeep.

    def prune(self) -> Pruned:
        """Remove what is too old, unless the clock is doubted, and the files of all that went.

        Raises:
            StoreUnavailable: where that cannot be done now.
        """
        gone = self._upkeep.prune(self._now())
        self.sweep()
        return gone

    def sweep(self) -> int:
        """Remove the files that a crash, or `prune`, left without a row; how many there were.

        Raises:
            StoreUnavailable: where that cannot be done now, or the photos are another's by now.
        """
        ownership.check_owned(self._database, self._files)
        self._files.sweep_parts()
        return leftovers.sweep(self._database, self._files)
