"""From answers to the review store: a bounded queue and one thread that writes.

Handing a photo over costs an answer next to nothing and never waits. Where the queue is full, or
the store is away for long, photos are dropped, and counted.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from service.classifier import Answers
from service.errors import PhotoError, SuperbinError
from service.metrics import Metrics
from service.review.records import NewPhoto, Reason, Reference, StoreFull, StoreUnavailable
from service.schemas import Classification
from service.selection import Shares, reason_to_keep
from service.tags import Tags

if TYPE_CHECKING:  # which needs packages that are there only where review is wanted
    from service.review.store import Store

log = structlog.get_logger()

NICE = 10  # the writer leaves the cores to those who answer
UPKEEP_S = 10.0  # between counts, for the metrics
PRUNE_S = 600.0
TRIES = 5
FIRST_PAUSE_S = 1.0
CLOSE_S = 10.0  # that the last writes may take, all together


@dataclass(frozen=True)
class Origin:
    """Where a photo comes from.

    Attributes:
        model: `name/version`.
        client: who sent it; None where no keys are set.
    """

    request_id: str
    position: int
    model: str
    tags: Tags
    client: str | None = None


class Capture:
    """Hands photos over to a store. `offer` is for the event loop, the rest for anybody."""

    def __init__(
        self, store: Store, shares: Shares, max_photos: int, max_bytes: int, metrics: Metrics
    ) -> None:
        """Start the thread.

        Args:
            max_photos, max_bytes: that may wait to be written.
        """
        self.store = store
        self._shares = shares
        self._max_photos, self._max_bytes = max_photos, max_bytes
        self._metrics = metrics
        metrics.review_begins()
        self._waiting: deque[NewPhoto] = deque()
        self._writing: NewPhoto | None = None
        self._nbytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._upkeep_at = self._prune_at = 0.0
        self._doubting = False
        self._thread = threading.Thread(target=self._work, name="review", daemon=True)
        self._thread.start()

    def consider(
        self,
        answer: Classification,
        answers: Answers,
        data: bytes | None,
        origin: Origin,
    ) -> Reason | None:
        """Keep a photo where it is worth it; why, or None where it is not, or there is no room.

        Args:
            answers: of this photo alone, N = 1.
            data: as it came.
        """
        reason = reason_to_keep(answer, self._shares)
        if reason is None or data is None:
            return None
        return reason if self.offer(new_photo(answer, answers, data, origin, reason)) else None

    def offer(self, photo: NewPhoto) -> bool:
        """Let a photo wait to be written; False where there is no room, which is counted."""
        with self._changed:
            fits = self._nbytes + len(photo.data) <= self._max_bytes
            room = len(self._waiting) < self._max_photos and fits and not self._closing
            if room:
                self._waiting.append(photo)
                self._nbytes += len(photo.data)
                self._changed.notify()
        if not room:
            self._metrics.review_photo("dropped")
        return room

    def awaits(self, request_id: str, position: int, client: str | None = None) -> bool:
        """Whether a photo is on its way into the store; those of other workers are not known.

        Args:
            client: whose it may be, beside nobody's; None where everybody's.
        """
        with self._changed:
            waiting = [*self._waiting, *([self._writing] if self._writing else [])]
        theirs = [one for one in waiting if client is None or one.client in (None, client)]
        return any(one.request_id == request_id and one.position == position for one in theirs)

    def close(self) -> None:
        """Try to write what waits, then let go of the store; blocks, for seconds at most."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():
            self.store.close()
            return
        with self._changed:
            lost = len(self._waiting) + (self._writing is not None)
            self._waiting.clear()
            self._writing = None
        if lost:
            log.error("review photos lost: the store takes too long", photos=lost)
        for _ in range(lost):
            self._metrics.review_photo("failed")

    # On the thread.

    def _work(self) -> None:
        with suppress(OSError):  # a container may not allow it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        self._attempt("count", self._count)
        while True:
            photo = self._take()
            if photo is not None:
                outcome = self._write(photo)
                with self._changed:
                    given_up = self._writing is None  # and counted
                    self._writing = None
                if not given_up:
                    self._metrics.review_photo(outcome)
            elif self._closing:
                return
            self._keep_up()

    def _take(self) -> NewPhoto | None:
        """The next photo; None where there is none for a while."""
        with self._changed:
            if not self._waiting and not self._closing:
                self._changed.wait(UPKEEP_S)
            if not self._waiting:
                return None
            photo = self._writing = self._waiting.popleft()
            self._nbytes -= len(photo.data)
            return photo

    def _write(self, photo: NewPhoto) -> str:
        """Try to keep a photo; what became of it, in the words of the metric."""
        for attempt in range(TRIES):
            try:
                added = self.store.add(photo)
            except StoreUnavailable as error:
                log.error("review photo not kept yet", attempt=attempt + 1, error=str(error))
                if not self._pause(FIRST_PAUSE_S * 2**attempt):
                    break
            except (PhotoError, StoreFull) as error:
                refused = "full" if isinstance(error, StoreFull) else "broken"
                log.warning("review photo refused", outcome=refused, error=str(error))
                return refused
            except Exception:  # a thread that ends here would be missed for ever
                log.exception("unexpected error", request_id=photo.request_id)
                break
            else:
                self._metrics.review_removed("room", added.removed)
                if added.removed > 1:  # a full store gives one for each that comes
                    log.info("review photos removed to make room", photos=added.removed)
                return "duplicate" if added.duplicate else "kept"
        return "failed"

    def _pause(self, seconds: float) -> bool:
        """Wait, while others fill the queue; False where it is time to end."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._closing and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return not self._closing

    def _keep_up(self) -> None:
        """Now and then remove what is too old, and count what there is."""
        now = time.monotonic()
        if now >= self._prune_at:
            self._prune_at = now + PRUNE_S
            self._attempt("prune", self._prune)
        if now >= self._upkeep_at:
            self._upkeep_at = now + UPKEEP_S
            self._attempt("count", self._count)

    def _prune(self) -> None:
        gone = self.store.prune()
        self._metrics.review_removed("age", gone.unreviewed)
        self._metrics.review_removed("reviewed_age", gone.reviewed)
        if gone.photos:
            log.info(
                "review photos removed by age", unreviewed=gone.unreviewed, reviewed=gone.reviewed
            )
        if gone.doubt and not self._doubting:  # once is enough
            what = f"set it right, or: superbin review confirm-clock {self.store.database_name}"
            log.warning("review photos stay: the clock leapt", why=gone.doubt, what_to_do=what)
        self._doubting = gone.doubt is not None

    def _count(self) -> None:
        self._metrics.review_store(self.store.counts(), self.store.agreement())

    def _attempt(self, what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except SuperbinError as error:
            log.error(f"review: could not {what}", error=str(error))
        except Exception:  # a thread that ends here would be missed for ever
            log.exception("unexpected error", what=what)


def new_photo(
    answer: Classification, answers: Answers, data: bytes, origin: Origin, reason: Reason
) -> NewPhoto:
    """A photo and its answer, in the store's words."""
    references = [
        Reference(one.id, one.superclass, one.subclass, one.weight) for one in answer.references
    ]
    return NewPhoto(
        data=data,
        request_id=origin.request_id,
        position=origin.position,
        reason=reason,
        model=origin.model,
        superclass=answer.superclass,
        confidence=answer.confidence,
        decision=answer.decision,
        probabilities=answer.probabilities,
        references=references,
        embedding=answers.embedding[0].astype("<f4").tobytes(),
        site=origin.tags.site,
        line=origin.tags.line,
        camera=origin.tags.camera,
        answered_at=time.time(),
        client=origin.client,
    )
