"""Who gets in: decided from a request's headers, before its body is read or anything is decoded.

What is admitted holds places (photos and bytes) until it is answered. What is not is told at once,
and when to come back: by the rate at which the queue was seen to drain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.cost import Backlog
from service.errors import ComeBackLater
from service.metrics import Metrics

SHORTEST_WAIT_S = 1
LONGEST_WAIT_S = 60
DOUBT = 1.15  # what an expected wait may be wrong by: better refused now than late


class QueueFull(ComeBackLater):
    """More photos or bytes are admitted already than the queue may hold."""

    reason = "queue_full"


class TooSlow(ComeBackLater):
    """The queue is so long that the request would not be answered within its time."""

    reason = "too_slow"


class Stopping(ComeBackLater):
    """The service is shutting down and takes nothing new."""

    reason = "stopping"


@dataclass
class Place:
    """What one request holds, and the backlog that it will join."""

    backlog: Backlog
    photos: int = 0
    nbytes: int = 0
    guessed: bool = False


class Admission:
    """Counts photos and bytes that are admitted and not yet answered; for one event loop."""

    def __init__(
        self,
        *,
        max_photos: int,
        max_bytes: int,
        max_request_photos: int,
        metrics: Metrics,
    ) -> None:
        self._max_photos = max_photos
        self._max_request_photos = max_request_photos
        self._max_bytes = max_bytes
        self._photos = self._nbytes = 0
        self._mean_bytes: float | None = None  # of a photo, over the recent ones
        self._closing = False
        metrics.queue(lambda: self._photos, lambda: self._nbytes)

    @contextmanager
    def admit(
        self, backlog: Backlog, photos: int | None, nbytes: int, timeout_s: float
    ) -> Iterator[Place]:
        """Hold the places of a request until it is answered: all or nothing.

        Args:
            backlog: of the model that is to answer.
            photos: how many; None where the headers do not tell, then guessed from the bytes.
            nbytes: of the body, at most.
            timeout_s: within which the request wants its answer.

        Raises:
            QueueFull, TooSlow, Stopping: where it should come back later.
        """
        place = Place(backlog, guessed=photos is None)
        try:
            _check_wait(backlog, timeout_s)
            self._resize(place, self._guess(nbytes) if photos is None else photos, nbytes)
            yield place
        finally:
            self._hold(place, 0, 0)

    def settle(self, place: Place, photos: int, nbytes: int) -> None:
        """Hold what really came, and learn how large photos are.

        Raises:
            QueueFull, Stopping: where more came than was guessed, and it does not fit.
        """
        if place.guessed:
            mean = nbytes / max(photos, 1)
            known = self._mean_bytes
            self._mean_bytes = mean if known is None else 0.9 * known + 0.1 * mean
        self._resize(place, photos, nbytes)

    def _resize(self, place: Place, photos: int, nbytes: int) -> None:
        """Hold other numbers, once more is known.

        Raises:
            QueueFull, Stopping: where the difference does not fit; the place stays as it was.
        """
        if self._closing:
            raise Stopping("the service is shutting down", SHORTEST_WAIT_S)
        more, more_bytes = photos - place.photos, nbytes - place.nbytes
        if more > 0 and self._photos + more > self._max_photos:
            raise QueueFull(
                f"expected at most {self._max_photos} photos in the queue, which holds "
                f"{self._photos - place.photos}, and {photos} came",
                _retry_after(place.backlog, self._photos + more - self._max_photos),
            )
        if more_bytes > 0 and self._nbytes + more_bytes > self._max_bytes:
            raise QueueFull(
                f"expected at most {self._max_bytes:,} bytes in the queue, which holds "
                f"{self._nbytes - place.nbytes:,}, and {nbytes:,} came",
                _retry_after(place.backlog, 1),
            )
        self._hold(place, photos, nbytes)

    def close(self) -> None:
        """Take nothing new."""
        self._closing = True

    def _hold(self, place: Place, photos: int, nbytes: int) -> None:
        self._photos += photos - place.photos
        self._nbytes += nbytes - place.nbytes
        place.photos, place.nbytes = photos, nbytes

    def _guess(self, nbytes: int) -> int:
        """Photos in a body of so many bytes."""
        guess = round(nbytes / self._mean_bytes) if self._mean_bytes else 1
        return min(max(guess, 1), self._max_request_photos)


def _check_wait(backlog: Backlog, timeout_s: float) -> None:
    if not backlog.photos:
        return  # what came before may have taken longer; nobody is refused for ever for that
    wait_s = backlog.wait_s
    if DOUBT * wait_s > timeout_s:
        about = f"{wait_s:.1f}" if wait_s >= 1.0 else f"{wait_s:.2g}"
        raise TooSlow(
            f"expected an answer within {timeout_s:g} s, and the photos that wait already take "
            f"about {about} s",
            _whole_seconds(DOUBT * wait_s - timeout_s),
        )


def _retry_after(backlog: Backlog, photos: int) -> int:
    """Seconds until so many places are free."""
    return _whole_seconds(photos / backlog.rate if backlog.rate else 0.0)


def _whole_seconds(wait_s: float) -> int:
    """As HTTP wants them, at least one."""
    return math.ceil(min(max(wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S))
