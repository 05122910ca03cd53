"""Who gets in: decided from a request's headers, before its body is read or anything is decoded.

What is admitted holds places (photos and bytes) until it is answered. What is not is told at once,
and when to come back: by the rate at which the queue was seen to drain. No client fills the queue:
it may hold so many times what it leaves free (the dynamic thresholds of Choudhury and Hahne,
IEEE/ACM Transactions on Networking 1998), so that there is room for others whoever sends in bulk.
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
UPLOADS_S = 5  # until bodies that are on their way may have left
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
class _Held:
    """By one client's requests, or by all."""

    photos: int = 0
    nbytes: int = 0


@dataclass
class Place:
    """What one request holds, and the backlog that it will join."""

    backlog: Backlog
    client: str
    timeout_s: float
    photos: int = 0
    nbytes: int = 0
    is_form: bool = False


@dataclass(frozen=True)
class _Limit:
    """Of photos, or of bytes.

    Attributes:
        most: of all clients.
        per_client: how many times what it leaves free a client may hold; None for no such limit.
    """

    unit: str
    most: int
    per_client: float | None

    def missing(self, total: int, mine: int, more: int) -> tuple[float, str] | None:
        """How many have to leave before so many more of a client fit, and what was expected.

        Args:
            total: that others' requests hold, and this one.
            mine: of those what this client holds.
        """
        free = self.most - total - more
        if free < 0:
            return -free, f"at most {self.most:,} {self.unit} in the queue"
        if self.per_client is None:
            return None
        over = mine + more - self.per_client * free
        if over <= 0:
            return None
        return over / (1.0 + self.per_client), (
            f"one client to hold at most {self.per_client:g} times what it leaves free of a queue "
            f"of {self.most:,} {self.unit}"
        )


class Admission:
    """Counts photos and bytes that are admitted and not yet answered; for one event loop."""

    def __init__(
        self,
        *,
        max_photos: int,
        max_bytes: int,
        interactive_photos: int,
        client_share: float,
        metrics: Metrics,
    ) -> None:
        """Begin with an empty queue.

        Args:
            max_photos, max_bytes: that it holds at most.
            interactive_photos: of a request that is not bulk, at most.
            client_share: of the queue, that one client holds at most where no other is in it.
        """
        per_client = client_share / (1.0 - client_share) if client_share < 1.0 else None
        self._photos = _Limit("photos", max_photos, per_client)
        self._bytes = _Limit("bytes", max_bytes, per_client)
        self._interactive_photos = interactive_photos
        self._held = _Held()
        self._clients: dict[str, _Held] = {}
        self._mean_bytes: float | None = None  # of a photo, over the recent ones
        self._closing = False
        metrics.queue(lambda: self._held.photos, lambda: self._held.nbytes)

    @contextmanager
    def admit(
        self, backlog: Backlog, client: str, photos: int | None, nbytes: int, timeout_s: float
    ) -> Iterator[Place]:
        """Hold the places of a request until it is answered: all or nothing.

        Args:
            backlog: of the model that is to answer.
            client: who sends it.
            photos: how many; None where the headers do not tell, and it holds places as they come.
            nbytes: of the body, at most.
            timeout_s: within which the request wants its answer.

        Raises:
            QueueFull, TooSlow, Stopping: where it should come back later.
        """
        place = Place(backlog, client, timeout_s, is_form=photos is None)
        try:
            self._check_wait(place, photos or 1)
            self._resize(place, 1 if photos is None else photos, nbytes)
            yield place
        finally:
            self._hold(place, 0, 0)

    def settle(self, place: Place, photos: int, nbytes: int) -> None:
        """Hold what really came, and learn how large photos are.

        Raises:
            QueueFull, TooSlow, Stopping: where more came than was known, and does not fit.
        """
        if photos > self._interactive_photos and (place.is_form or photos > place.photos):
            self._check_wait(place, photos)
        if place.is_form:
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
        mine = self._clients.get(place.client) or _Held()
        for limit, total, own, had, wanted, photo in (
            (self._photos, self._held.photos, mine.photos, place.photos, photos, 1.0),
            (self._bytes, self._held.nbytes, mine.nbytes, place.nbytes, nbytes, self._mean_bytes),
        ):
            more = wanted - had
            if more <= 0 or (total == had and wanted <= limit.most):  # or it would be alone
                continue
            if missing := limit.missing(total, own, more):
                raise QueueFull(
                    f"expected {missing[1]}, which holds {total - had:,} ({own - had:,} of this "
                    f"client), and {wanted:,} came",
                    _retry_after(place.backlog, missing[0] / photo if photo else 1.0),
                )
        self._hold(place, photos, nbytes)

    def close(self) -> None:
        """Take nothing new."""
        self._closing = True

    def grow(self, place: Place, photos: int, nbytes: int) -> None:
        """Hold more, where a body turns out to have more.

        Raises:
            QueueFull, Stopping: where it does not fit.
        """
        if photos > place.photos or nbytes > place.nbytes:
            self._resize(place, max(photos, place.photos), max(nbytes, place.nbytes))

    def _hold(self, place: Place, photos: int, nbytes: int) -> None:
        mine = self._clients.setdefault(place.client, _Held())
        for held in (self._held, mine):
            held.photos += photos - place.photos
            held.nbytes += nbytes - place.nbytes
        place.photos, place.nbytes = photos, nbytes
        if not mine.photos and not mine.nbytes:
            del self._clients[place.client]

    def _check_wait(self, place: Place, photos: int) -> None:
        """See that those that go before leave the request its time.

        Raises:
            TooSlow: where they do not.
        """
        backlog, timeout_s = place.backlog, place.timeout_s
        if not backlog.photos:
            return  # what came before may have taken longer; nobody is refused for ever for that
        wait_s = backlog.wait_s
        if DOUBT * wait_s > timeout_s:
            bulk = photos > self._interactive_photos
            passed = backlog.passed(place.client, bulk, photos)
            wait_s = backlog.wait_behind(backlog.photos - passed)
        if DOUBT * wait_s > timeout_s:
            about = f"{wait_s:.1f}" if wait_s >= 1.0 else f"{wait_s:.2g}"
            raise TooSlow(
                f"expected an answer within {timeout_s:g} s, and the photos that go before take "
                f"about {about} s",
                _whole_seconds(DOUBT * wait_s - timeout_s),
            )


def _retry_after(backlog: Backlog, photos: float) -> int:
    """Seconds until so many places are free."""
    if not backlog.photos:  # and so it is bodies on their way that hold them
        return UPLOADS_S
    return _whole_seconds(photos / backlog.rate if backlog.rate else 0.0)


def _whole_seconds(wait_s: float) -> int:
    """As HTTP wants them, at least one."""
    return math.ceil(min(max(wait_s, SHORTEST_WAIT_S), LONGEST_WAIT_S))
