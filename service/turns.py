"""Which of the photos that wait a thread takes at its next turn, and in what batches they run."""

from __future__ import annotations

import math
import time

from service.cost import CostModel
from service.fairness import FairQueue
from service.photos import Photo

TURN = 4  # photos that a thread takes at once to decode and run them, where so many wait
TURN_S = 0.03  # and it takes no more than it expects to be done with by then


class Turns:
    """Chooses by what batches and turns have cost so far.

    Attributes:
        cost: of running a batch.
        turn_cost: of a whole turn, with decoding where the same thread does that.
    """

    def __init__(
        self,
        *,
        sessions: int,
        max_batch: int,
        max_delay_s: float = 0.0,
        decoding: bool,
        cost: CostModel | None = None,
    ) -> None:
        """Begin with what the warm-up measured, if anything.

        Args:
            sessions: threads that take turns.
            max_batch: photos of the largest batch.
            max_delay_s: for which a photo may wait for others while a thread is idle.
            decoding: whether these threads decode as well.
            cost: of running a batch.
        """
        self.cost = cost or CostModel()
        self.turn_cost = CostModel()
        self._sessions = sessions
        self._max_batch = max_batch
        self._max_delay_s = max_delay_s
        self._turn = TURN if decoding else 0

    @property
    def batch(self) -> int:
        """Photos of a batch that has little left to gain by being larger."""
        return self.cost.worthwhile(self._max_batch)

    def choose(self, queue: FairQueue[Photo], idle: int) -> tuple[list[Photo], float]:
        """As many as are worth taking together, shared among the idle sessions.

        A turn stops growing where it would make one of its photos late, and nobody waits for more
        so long that the next one would be.

        Args:
            queue: not empty; what is chosen, and what nobody wants any more, leaves it.
            idle: threads that wait for a turn, this one too.

        Returns:
            The photos; or none, and the seconds for which the thread would rather wait.
        """
        now = time.monotonic()
        chosen: list[Photo] = []
        earliest = math.inf
        worthwhile = self.batch
        together = min(worthwhile, math.ceil(len(queue) / idle))
        most = max(together, min(self._turn, len(queue) // self._sessions))
        if self._max_delay_s and len(queue) < worthwhile:
            due = min(self._due(photo, worthwhile) for photo in queue.firsts())
            if now < due:
                return [], due - now
        while len(queue) and len(chosen) < most:
            photo = queue.peek(now)
            if photo.unwanted:
                queue.drop(now)
                continue
            earliest = min(earliest, photo.deadline)
            if chosen:
                end_s = self._seconds(len(chosen) + 1)
                if now + end_s > earliest or (len(chosen) >= together and end_s > TURN_S):
                    break
            chosen.append(queue.pop(now))
        return chosen, 0.0

    def _due(self, photo: Photo, photos: int) -> float:
        """Until when a photo may wait for others: half of what is left of its time is kept."""
        latest = photo.deadline - max((photo.deadline - photo.since) / 2, self._seconds(photos))
        return min(photo.since + self._max_delay_s, latest)

    def _seconds(self, photos: int) -> float:
        """What a turn of so many is expected to take."""
        return max(self.cost.seconds(photos), self.turn_cost.seconds(photos))
