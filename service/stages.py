"""Threads that work on what waits in a fair queue.

The thread that fell asleep last is woken first: its core's caches still have what it works with.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic

import structlog

from service.fairness import FairQueue, T

log = structlog.get_logger()


class Stage(Generic[T]):
    """Worker threads over one queue, each of which takes some of what waits whenever it is idle."""

    def __init__(
        self,
        name: str,
        workers: Sequence[Callable[[list[T]], None]],
        choose: Callable[[FairQueue[T], int], tuple[list[T], float]],
        *,
        begin: Callable[[], object] | None = None,
    ) -> None:
        """Start one thread for each worker.

        Args:
            workers: what to do with what was taken; each answers for it itself.
            choose: takes some of a queue that is not empty, given how many threads are idle; none,
                and for how long (seconds; 0: until it is woken), where it would rather wait.
            begin: what each thread does first.
        """
        self._queue: FairQueue[T] = FairQueue()
        self._lock = threading.Lock()
        self._asleep: list[threading.Condition] = []
        self._choose = choose
        self._begin = begin
        self._since: dict[int, float] = {}  # threads at work, by number
        self._idle = 0
        self._closing = False
        self._threads: list[threading.Thread] = []
        for i, worker in enumerate(workers):
            thread = threading.Thread(
                target=self._work, args=(i, worker), name=f"{name}-{i}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # there may be no more
                self.close()
                raise
            self._threads.append(thread)

    def put(self, waiting: Sequence[T]) -> None:
        """Let these wait for a thread."""
        with self._lock:
            for one in waiting:
                self._queue.push(one)
            self._wake(len(waiting))

    def put_back(self, taken: Sequence[T]) -> None:
        """Let these, which a thread took and did not get to, be the next again."""
        with self._lock:
            for one in reversed(taken):
                self._queue.put_back(one)
            self._wake(len(taken))

    def passed(self, client: str, bulk: bool, photos: int) -> int:
        """As `FairQueue.passed`."""
        with self._lock:
            return self._queue.passed(client, bulk, photos, time.monotonic())

    @property
    def working_s(self) -> float:
        """For how long a thread has been at what it took, of those at work the longest."""
        return time.monotonic() - min(list(self._since.values()), default=time.monotonic())

    def close(self) -> None:
        """Work off what waits, then end the threads; blocks."""
        with self._lock:
            self._closing = True
            self._wake(len(self._threads))
        for thread in self._threads:
            thread.join()

    def _work(self, number: int, worker: Callable[[list[T]], None]) -> None:
        try:
            if self._begin:
                self._begin()
        except Exception:  # a thread works without it
            log.exception("unexpected error", of="the beginning of a thread")
        alarm = threading.Condition(self._lock)
        while (taken := self._take(alarm)) is not None:
            self._since[number] = time.monotonic()
            try:
                worker(taken)
            except Exception:  # a thread that ends here would be missed for ever
                log.exception("unexpected error", taken=len(taken))
            del taken  # idle threads keep nobody's photos
            del self._since[number]

    def _take(self, alarm: threading.Condition) -> list[T] | None:
        """What to work on; None at the end."""
        with self._lock:
            self._idle += 1
            try:
                while True:
                    wait_s = 0.0
                    if len(self._queue):
                        taken, wait_s = self._choose(self._queue, self._idle)
                        if taken:
                            if len(self._queue):  # for a thread that sleeps until more are there
                                self._wake(1)
                            return taken
                    if self._closing and not len(self._queue):
                        self._wake(len(self._threads))  # those that left the rest to others
                        return None
                    self._sleep(alarm, wait_s or None)
            finally:
                self._idle -= 1

    # With the lock.

    def _wake(self, most: int) -> None:
        for _ in range(min(most, len(self._asleep))):
            self._asleep.pop().notify()

    def _sleep(self, alarm: threading.Condition, most_s: float | None) -> None:
        self._asleep.append(alarm)
        alarm.wait(most_s)
        if alarm in self._asleep:  # by the time alone
            self._asleep.remove(alarm)
