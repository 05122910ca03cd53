"""What a batch costs, and how fast the backlog drains: two small models fitted while serving."""

from __future__ import annotations

FORGET = 0.98  # weight of the past at each new batch: about the last fifty count
HALF_LIFE_S = 5.0


class CostModel:
    """duration = a * n + b for a batch of n photos, by least squares over the recent ones.

    The rule is that of Clipper's successors (BentoML fits the same line); a and b are never
    negative.
    """

    def __init__(self) -> None:
        # Weighted sums of 1, n, t, n * n and n * t.
        self._w = self._n = self._t = self._nn = self._nt = 0.0

    def observe(self, photos: int, seconds: float) -> None:
        """Learn from a batch that ran."""
        self._w = FORGET * self._w + 1.0
        self._n = FORGET * self._n + photos
        self._t = FORGET * self._t + seconds
        self._nn = FORGET * self._nn + photos * photos
        self._nt = FORGET * self._nt + photos * seconds

    @property
    def line(self) -> tuple[float, float]:
        """a and b in seconds; (0, 0) before the first batch."""
        if not self._w:
            return 0.0, 0.0
        spread = self._w * self._nn - self._n**2
        if spread <= 1e-9 * self._w * self._nn:  # batches of one size say nothing of b
            return self._t / self._n, 0.0
        a = (self._w * self._nt - self._n * self._t) / spread
        b = (self._t - a * self._n) / self._w
        if b < 0.0:
            return self._nt / self._nn, 0.0
        if a < 0.0:
            return 0.0, self._t / self._w
        return a, b

    def seconds(self, photos: int) -> float:
        """What a batch of so many photos is expected to take."""
        a, b = self.line
        return a * photos + b


class Backlog:
    """Photos handed in and not answered yet, and the rate at which they leave while others wait.

    For one thread. Uploads that are still on their way are not in it: they say nothing of how fast
    photos are answered.
    """

    def __init__(self) -> None:
        self.photos = 0
        self._left = self._seconds = 0.0  # both fade with a half-life
        self._last: float | None = None

    @property
    def rate(self) -> float | None:
        """Photos a second, or None where nothing was seen to wait yet."""
        return self._left / self._seconds if self._seconds > 0.0 else None

    @property
    def wait_s(self) -> float:
        """How long a photo that comes now is expected to wait; 0 where nothing is known."""
        return self.photos / self.rate if self.rate else 0.0

    def enter(self, photos: int) -> None:
        """Photos were handed in."""
        self.photos += photos

    def gone(self, photos: int) -> None:
        """Photos are no longer wanted."""
        self.photos -= photos

    def answered(self, photos: int, now: float) -> None:
        """Photos were answered at `now` (seconds)."""
        self.photos -= photos
        if self._last is not None:
            elapsed = now - self._last
            fade = 0.5 ** (elapsed / HALF_LIFE_S)
            self._left = fade * self._left + photos
            self._seconds = fade * self._seconds + elapsed
        self._last = now if self.photos else None
