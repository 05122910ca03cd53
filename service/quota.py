"""How many photos a second one client may bring: a bucket of tokens each."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.errors import ComeBackLater

MOST_CLIENTS = 10_000  # the longest unseen are forgotten, with buckets that have long been full


class RateLimited(ComeBackLater):
    """A client brings more photos than it may."""

    reason = "rate_limited"


@dataclass
class Booking:
    """What a request was charged before it came; `photos` of it is known once it is there."""

    photos: int
    settled: bool = False


class Quota:
    """Refuses by the headers whoever is in debt; what else a request brings is charged as it shows.

    Where others of its client have left nothing by then, it is refused in the middle.
    """

    def __init__(self, photos_per_second: float, burst: int, what: str = "photos") -> None:
        """A rate of 0 limits nobody; `what` is counted where it is not photos."""
        self._what = what
        self._rate = photos_per_second
        self._burst = float(burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at when

    def check(self, client: str) -> None:
        """Let a request in.

        Raises:
            RateLimited: where the client's last ones have not been paid for yet.
        """
        self._check(client, beside=0)

    def _check(self, client: str, beside: int) -> None:
        """As `check`, by what the client would have without so many photos of one request."""
        if not self._rate:
            return
        tokens = self._tokens(client) + beside
        if tokens < 1.0:
            missing = 1.0 - tokens + (1 if beside else 0)  # what the request costs, though refused
            raise RateLimited(
                f"expected at most {self._rate:g} {self._what} a second and {self._burst:g} at "
                "once",
                max(1, math.ceil(missing / self._rate)),
            )

    @contextmanager
    def booked(self, client: str, photos: int) -> Iterator[Booking]:
        """Charge what a request is expected to bring, so that others at once do not count on it.

        Where nothing came of it, as of a body that breaks off, it has cost a token.
        """
        booking = Booking(photos)
        self.charge(client, photos)
        try:
            yield booking
        finally:
            if not booking.settled:
                self.charge(client, 1 - booking.photos)

    def grow(self, client: str, booking: Booking, photos: int) -> None:
        """Charge what a request turns out to bring, where that is more.

        Raises:
            RateLimited: where the client's others at the same time have left nothing.
        """
        if photos > booking.photos:
            self._check(client, beside=booking.photos)
            self.charge(client, photos - booking.photos)
            booking.photos = photos

    def settle(self, client: str, booking: Booking, photos: int) -> None:
        """Charge what really came, once.

        Raises:
            RateLimited: as `grow`.
        """
        self.grow(client, booking, photos)
        self.charge(client, photos - booking.photos)
        booking.photos, booking.settled = photos, True

    def charge(self, client: str, photos: int) -> None:
        """Take the tokens for what came."""
        if not self._rate:
            return
        self._buckets[client] = (self._tokens(client) - photos, time.monotonic())
        self._buckets.move_to_end(client)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)

    def _tokens(self, client: str) -> float:
        tokens, since = self._buckets.get(client, (self._burst, 0.0))
        return min(self._burst, tokens + self._rate * (time.monotonic() - since))
