"""The scheduler between requests and the classifier: photos that arrive together run together.

Work-conserving: as soon as the session is idle it takes whatever waits, up to `max_batch`. It never
waits for more, since that costs latency and gains little.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import structlog

from service.classifier import Answers
from service.errors import SuperbinError
from service.metrics import Metrics
from service.preprocess import Pixels
from service.results import InferenceError

log = structlog.get_logger()

Run = Callable[[Pixels], Answers]


class QueueFull(SuperbinError):
    """More photos are admitted already than the queue may hold."""

    reason = "queue_full"


class Stopping(SuperbinError):
    """The service is shutting down and takes nothing new."""

    reason = "stopping"


@dataclass(frozen=True)
class Outcome:
    """What came of one photo: its row of answers (N = 1), and where the time went."""

    answers: Answers
    queue_s: float
    infer_s: float


@dataclass(frozen=True)
class _Waiting:
    pixels: Pixels
    outcome: asyncio.Future[Outcome]
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """Runs photos in batches, one batch at a time, on a thread of its own."""

    def __init__(self, run: Run, *, max_batch: int, max_queue: int, metrics: Metrics) -> None:
        self._run = run
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._metrics = metrics
        self._admitted = 0
        self._closing = False
        self._waiting: asyncio.Queue[_Waiting | None] = asyncio.Queue()  # None: stop
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="infer")
        self._worker = asyncio.create_task(self._work(), name="batcher")

    @contextmanager
    def places(self, photos: int) -> Iterator[None]:
        """Hold the places of a request's photos until all of them are done with: all or nothing.

        Raises:
            QueueFull, Stopping: before anything was decoded.
        """
        if self._closing:
            raise Stopping("the service is shutting down")
        if self._admitted + photos > self._max_queue:
            raise QueueFull(
                f"expected at most {self._max_queue} photos in the queue, which holds "
                f"{self._admitted}, and {photos} more came: try again in a moment"
            )
        self._admit(photos)
        try:
            yield
        finally:
            self._admit(-photos)

    async def classify(self, pixels: Pixels) -> Outcome:
        """Run one photo, [H, W, 3], with whatever else waits.

        Cancelling the caller takes the photo out of the queue.

        Raises:
            InferenceError: where the model fails on this photo, alone as well.
            Stopping: where `close` came first.
        """
        if self._closing:
            raise Stopping("the service is shutting down")
        photo = _Waiting(pixels, asyncio.get_running_loop().create_future())
        self._waiting.put_nowait(photo)
        return await photo.outcome

    async def close(self) -> None:
        """Answer what waits, then stop."""
        self._closing = True
        self._waiting.put_nowait(None)
        await self._worker
        self._thread.shutdown()

    def _admit(self, photos: int) -> None:
        self._admitted += photos
        self._metrics.queue(self._admitted)

    async def _work(self) -> None:
        stop = False
        while not stop:
            taken = [await self._waiting.get()]
            while len(taken) < self._max_batch and not self._waiting.empty():
                taken.append(self._waiting.get_nowait())
            stop = None in taken
            # A done future is one whose client has gone.
            batch = [photo for photo in taken if photo and not photo.outcome.done()]
            if batch:
                await self._answer(batch)

    async def _answer(self, batch: list[_Waiting]) -> None:
        """Run a batch; where it fails run each photo alone, so that a bad one fails alone."""
        started = time.perf_counter()
        try:
            answers = await self._infer(batch)
        except Exception as error:
            log.exception("batch failed", photos=len(batch))
            if len(batch) > 1:
                for photo in batch:
                    await self._answer([photo])
            elif not batch[0].outcome.done():
                failure = InferenceError("the model failed on this photo")
                failure.__cause__ = error
                batch[0].outcome.set_exception(failure)
            return
        infer_s = time.perf_counter() - started
        self._metrics.batch(len(batch))
        self._metrics.stage("infer", infer_s)
        for row, photo in enumerate(batch):
            queue_s = started - photo.since
            self._metrics.stage("queue", queue_s)
            if not photo.outcome.done():
                photo.outcome.set_result(Outcome(answers[row : row + 1], queue_s, infer_s))

    async def _infer(self, batch: list[_Waiting]) -> Answers:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._run_together, batch)

    def _run_together(self, batch: list[_Waiting]) -> Answers:
        answers = self._run(np.stack([photo.pixels for photo in batch]))
        if len(answers) != len(batch):
            raise ValueError(f"expected {len(batch)} answers, got {len(answers)}")
        return answers
