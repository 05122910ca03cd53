"""Superclass-balanced batches, as a pure function of seed and step.

Nothing is remembered between steps, so a resumed run draws what an uninterrupted one would have.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]

MOMENTS = 1 << 32  # seed * MOMENTS + step: keeps the streams of seed and step apart


class BalancedSampler:
    """Every batch holds the same number of photos of each superclass, within one.

    Each superclass is gone through in shuffled passes, so its photos are seen equally often,
    and those of a small one more often than those of a large one.
    """

    def __init__(self, labels: Indices, batch: int, seed: int) -> None:
        """labels: int64 [n], a superclass index per photo."""
        self._members = [np.flatnonzero(labels == k) for k in range(int(labels.max()) + 1)]
        self._batch = batch
        self._seed = seed
        self._orders: dict[int, tuple[int, Indices]] = {}  # superclass -> its current pass

    def batch(self, step: int) -> Indices:
        """int64 [batch]: the photos of a step."""
        superclasses = len(self._members)
        # Position in one endless round-robin over superclasses; the remainder of a batch that
        # superclasses do not divide moves on to the next ones.
        places = np.arange(step * self._batch, (step + 1) * self._batch)
        chosen = np.empty(self._batch, dtype=np.int64)
        for k, members in enumerate(self._members):
            mine = places % superclasses == k
            turns = places[mine] // superclasses
            chosen[mine] = [self._photo(k, members, int(turn)) for turn in turns]
        return chosen

    def _photo(self, superclass: int, members: Indices, turn: int) -> int:
        lap, place = divmod(turn, len(members))
        if self._orders.get(superclass, (-1,))[0] != lap:
            random = np.random.default_rng((self._seed, superclass, lap))
            self._orders[superclass] = lap, random.permutation(members)
        return int(self._orders[superclass][1][place])
