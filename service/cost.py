"""What a batch costs, and how fast the backlog drains: two small models fitted while serving."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

FORGET = 0.98  # weight of the past at each new batch: about the last fifty count
HALF_LIFE_S = 5.0
WORTH = 0.05  # share of a batch's time that its fixed cost may be


class CostModel:
    """duration = a * n + b for a batch of n photos, by least squares over the recent ones.

    BentoML's dispatcher fits the same line. What was measured before serving stays in the fit, so
    that it knows of other sizes than those of late; a and b are never negative.
    """

    def __init__(self, measured: Sequence[tuple[int, float]] = ()) -> None:
        """Begin with batches (photos, seconds) that were timed, such as those of the warm-up."""
        # Weighted sums of 1, n, t, n * n and n * t; of the recent batches, and of all.
        self._recent = [0.0] * 5
        self._measured = [sum(terms) for terms in zip(*map(_terms, measured), strict=True)]
        self._measured = self._measured or [0.0] * 5

    def observe(self, photos: int, seconds: float) -> None:
        """Learn from a batch that ran."""
        pairs = zip(self._recent, _terms((photos, seconds)), strict=True)
        self._recent = [FORGET * old + new for old, new in pairs]

    @property
    def line(self) -> tuple[float, float]:
        """a and b in seconds; (0, 0) before the first batch."""
        w, n, t, nn, nt = (old + new for old, new in zip(self._measured, self._recent, strict=True))
        if not w:
            return 0.0, 0.0
        spread = w * nn - n**2
        if spread <= 1e-9 * w * nn:  # batches of one size say nothing of b
            return t / n, 0.0
        a = (w * nt - n * t) / spread
        b = (t - a * n) / w
        if b < 0.0:
            return nt / nn, 0.0
        if a < 0.0:
            return 0.0, t / w
        return a, b

    def worthwhile(self, most: int) -> int:
        """Photos at which a batch has little left to gain: its fixed cost is one part in twenty.

        On a CPU, where b is next to nothing, that is one photo, and larger batches only cost
        latency; on a GPU it is as many as there may be.
        """
        a, b = self.line
        if a * most * WORTH <= b:
            return most
        return max(1, math.ceil(b / (a * WORTH)))

    def seconds(self, photos: int) -> float:
        """What a batch of so many photos is expected to take."""
        a, b = self.line
        return a * photos + b


class Backlog:
    """Photos handed in and not answered yet, and the rate at which they leave while others wait.

    For one thread. Uploads that are still on their way are not in it: they say nothing of how fast
    photos are answered.
    """

    def __init__(self, passed: Callable[[str, bool, int], int] = lambda *_: 0) -> None:
        """Begin with none.

        Args:
            passed: how many of them a client's next photos go before, given whether they are bulk
                and how many.
        """
        self.photos = 0
        self.passed = passed
        self._turn_s = 0.0
        self._lone = False  # nothing has come beside the photo that is in it
        self._left = self._seconds = 0.0  # both fade with a half-life
        self._last: float | None = None

    @property
    def rate(self) -> float | None:
        """Photos a second, or None where nothing was seen to wait yet."""
        return self._left / self._seconds if self._seconds > 0.0 else None

    @property
    def wait_s(self) -> float:
        """How long a photo that is behind all others is expected to wait; 0 if nothing is known."""
        return self.wait_behind(self.photos)

    def wait_behind(self, photos: int) -> float:
        """How long it waits (seconds) where so many go before it.

        Until they have left, and then for the others of its own turn.
        """
        return photos / self.rate + self._turn_s if self.rate else 0.0

    def enter(self, photos: int, now: float) -> None:
        """Photos were handed in at `now` (seconds).

        Time counts from the first of them, and not from its answer: those of several threads come
        together, and nothing is as fast as from one to the next of them.
        """
        self._lone = photos == 1 and not self.photos
        if not self.photos:
            self._last = now
        self.photos += photos

    def gone(self, photos: int) -> None:
        """Photos are no longer wanted."""
        self.photos -= photos
        if not self.photos:
            self._last = None  # what follows is idle time, and says nothing

    def answered(self, photos: int, now: float, turn_s: float = 0.0) -> None:
        """Photos were answered at `now` (seconds), after a thread's turn that took so long."""
        self.photos -= photos
        self._turn_s = FORGET * self._turn_s + (1.0 - FORGET) * turn_s
        if self._last is not None and not self._lone:
            elapsed = now - self._last
            fade = 0.5 ** (elapsed / HALF_LIFE_S)
            self._left = fade * self._left + photos
            self._seconds = fade * self._seconds + elapsed
        self._last = now if self.photos else None


def _terms(batch: tuple[int, float]) -> tuple[float, ...]:
    n, t = batch
    return 1.0, n, t, n * n, n * t
