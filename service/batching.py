"""The scheduler between requests and the model: decode, then run what waits together.

Work-conserving: an idle thread takes what is there at once and never waits for more, unless asked
to. Photos are decoded and run on threads of their own; the event loop only hands them in and is
woken once for each turn of a thread. Where threads do both, several photos are decoded, then
checked, then run: each kind of work leaves little of another's in a processor's caches.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import structlog

from service.appearance import measure_appearance
from service.classifier import Answers
from service.cost import Backlog, CostModel
from service.decoding import while_wanted
from service.doubts import NONE, Doubts
from service.errors import SuperbinError, forget_frames
from service.fairness import FairQueue
from service.metrics import Metrics
from service.photos import DeadlineExceeded, Outcome, Photo, let_go
from service.preprocess import Pixels
from service.results import InferenceError
from service.slices import take_slices
from service.stages import Stage
from service.turns import TURN_S, Turns

log = structlog.get_logger()

Run = Callable[[Pixels], Answers]
Result = tuple[Photo, Outcome | SuperbinError]


class Scheduler:
    """Decoding threads, then one thread for each session of the model.

    Without decoding threads the sessions' threads decode for themselves: on a CPU that keeps a
    photo on one core from its bytes to its answer.
    """

    def __init__(
        self,
        sessions: Sequence[Run],
        *,
        alone: Run | None = None,
        decode_workers: int,
        max_batch: int,
        max_delay_s: float = 0.0,
        metrics: Metrics,
        cost: CostModel | None = None,
        doubts: Doubts = NONE,
        watch_appearance: bool = False,
    ) -> None:
        self._stages: list[Stage[Photo]] = []
        self.backlog = Backlog(partial(_passed, self._stages))
        self._loop = asyncio.get_running_loop()
        self._metrics = metrics
        self._alone = alone
        self._doubts = doubts
        self._watch_appearance = watch_appearance
        self._decoding = not decode_workers  # on the sessions' threads
        self._turns = Turns(
            sessions=len(sessions),
            max_batch=max_batch,
            max_delay_s=max_delay_s,
            decoding=self._decoding,
            cost=cost,
        )
        runners = [partial(self._answer, run) for run in sessions]
        self._infer = Stage(
            "infer",
            runners,
            self._turns.choose,
            begin=partial(take_slices, TURN_S) if self._decoding else None,
        )
        self._stages.append(self._infer)
        if decode_workers:
            try:
                decode = Stage("decode", [self._decode_one] * decode_workers, _choose_one)
            except RuntimeError:
                self._infer.close()
                raise
            self._stages.insert(0, decode)

    @contextmanager
    def submitted(
        self,
        loads: Sequence[Callable[[], Pixels]],
        *,
        client: str,
        bulk: bool = False,
        watched: Callable[[], bool] | None = None,
        timeout_s: float,
    ) -> Iterator[list[asyncio.Future[Outcome]]]:
        """Work on the photos of one request; what is not answered at the end is dropped.

        A photo's future has its outcome, or one of PhotoError, DeadlineExceeded, InferenceError.

        Args:
            watched: is asked of each photo that decodes, on threads, whether drift is to see it.
        """
        deadline = time.monotonic() + timeout_s
        new = self._loop.create_future
        photos = [Photo(load, client, bulk, watched, deadline, new()) for load in loads]
        timer = self._loop.call_later(timeout_s, self._expire, photos, timeout_s)
        try:
            self.backlog.enter(len(photos), time.monotonic())
            self._stages[0].put(photos)
            yield [photo.outcome for photo in photos]
        finally:
            timer.cancel()
            self.backlog.gone(sum(let_go(photo.outcome) for photo in photos))
            for photo in photos:
                photo.forget()

    @property
    def working_s(self) -> float:
        """For how long a thread has been at its turn; of several the longest."""
        return max(stage.working_s for stage in self._stages)

    async def close(self) -> None:
        """Answer what waits, then stop."""
        for stage in self._stages:
            await asyncio.to_thread(stage.close)
        await asyncio.sleep(0)  # for the answers that were handed over last

    def _expire(self, photos: list[Photo], timeout_s: float) -> None:
        late = [photo for photo in photos if not photo.outcome.done()]
        self.backlog.gone(len(late))
        for photo in late:
            photo.outcome.set_exception(
                DeadlineExceeded(f"expected an answer within {timeout_s:g} s, got none in time")
            )
            photo.forget()

    # On the decoding threads.

    def _decode_one(self, photos: list[Photo]) -> None:
        self._infer.put(self._prepared(photos))

    def _prepared(self, photos: list[Photo], until: float = math.inf) -> list[Photo]:
        """Those that have their pixels now, and all that pixels alone say.

        Args:
            until: then (`time.monotonic`) those that were not begun go back, so that a few that are
                slow to decode do not keep others waiting.
        """
        decoded: list[Photo] = []
        pixels: list[Pixels] = []
        for place, photo in enumerate(photos):
            if place and time.monotonic() > until:
                self._infer.put_back(photos[place:])
                break
            found_pixels = self._decoded(photo)
            if found_pixels is not None:
                decoded.append(photo)
                pixels.append(found_pixels)
        try:
            found = self._doubts.of_pixels(pixels)
            for photo, seen in zip(decoded, pixels, strict=True):
                photo.watched = photo.is_watched is not None and photo.is_watched()
                if photo.watched and self._watch_appearance:
                    photo.appearance = measure_appearance(seen)
        except Exception as error:  # a fault of ours, which is no end of the thread
            log.exception("checking failed", photos=len(decoded))
            self._hand_over([(photo, _failure(error)) for photo in decoded])
            return []
        for photo, doubts in zip(decoded, found, strict=True):
            photo.doubts = doubts
        return decoded

    def _decoded(self, photo: Photo) -> Pixels | None:
        """A photo's pixels, which it keeps; where it is bad, its client is told."""
        if photo.unwanted:
            return None
        started = time.monotonic()
        try:
            with while_wanted(lambda: not photo.unwanted):
                pixels = photo.load()
        except SuperbinError as error:
            self._hand_over([(photo, error)])
            return None
        except Exception as error:  # no photo's fault, and the thread has others to decode
            log.exception("decoding failed")
            self._hand_over([(photo, _failure(error))])
            return None
        photo.forget()  # its bytes
        photo.pixels = pixels
        if photo.unwanted:  # since then
            photo.forget()
        photo.decode_s = time.monotonic() - started
        self._metrics.stage("decode", photo.decode_s)
        return pixels

    # On the sessions' threads.

    def _answer(self, run: Run, photos: list[Photo]) -> None:
        """A turn: decode where nobody else does, then run in batches that are worth it."""
        started = time.monotonic()
        ready = self._prepared(photos, started + TURN_S) if self._decoding else photos
        size = self._turns.batch
        results: list[Result] = []
        for first in range(0, len(ready), size):
            some = [(photo, photo.pixels) for photo in ready[first : first + size]]
            wanted = [(photo, pixels) for photo, pixels in some if pixels is not None]
            if wanted:
                results += self._ran(run, wanted)
        if results:
            turn_s = time.monotonic() - started
            self._turns.turn_cost.observe(len(ready), turn_s)
            self._hand_over(results, turn_s)

    def _ran(self, run: Run, batch: list[tuple[Photo, Pixels]]) -> list[Result]:
        """What a batch gives; where it fails each runs alone, so that a bad one fails alone."""
        chosen = self._alone if self._alone and self.backlog.photos <= 1 else run
        started = time.monotonic()
        try:
            answers = _run_together(chosen, [pixels for _, pixels in batch])
            doubts = self._doubts.of_answers(answers)
        except Exception as error:  # as ONNX Runtime's, which share no narrower base
            log.exception("batch failed", photos=len(batch))
            if len(batch) == 1:
                return [(batch[0][0], _failure(error))]
            return [result for one in batch for result in self._ran(run, [one])]
        infer_s = time.monotonic() - started
        if chosen is run:
            self._turns.cost.observe(len(batch), infer_s)
        self._metrics.batch(len(batch), infer_s)
        return [
            (
                photo,
                Outcome(
                    answers[row : row + 1],
                    photo.decode_s,
                    started - photo.since - photo.decode_s,
                    infer_s,
                    (*photo.doubts, *doubts[row]),
                    photo.watched,
                    photo.appearance,
                ),
            )
            for row, (photo, _) in enumerate(batch)
        ]

    def _hand_over(self, results: list[Result], turn_s: float = 0.0) -> None:
        for _, result in results:
            if isinstance(result, SuperbinError):
                forget_frames(result)
        self._loop.call_soon_threadsafe(self._settle, results, turn_s)

    def _settle(self, results: list[Result], turn_s: float) -> None:
        """On the event loop."""
        wanted = [(photo, result) for photo, result in results if not photo.unwanted]
        self.backlog.answered(len(wanted), time.monotonic(), turn_s)
        for photo, result in wanted:
            if isinstance(result, Outcome):
                self._metrics.stage("queue", result.queue_s)
                photo.outcome.set_result(result)
            else:
                photo.outcome.set_exception(result)


def _choose_one(queue: FairQueue[Photo], idle: int) -> tuple[list[Photo], float]:
    now = time.monotonic()
    while len(queue):
        if not queue.peek(now).unwanted:
            return [queue.pop(now)], 0.0
        queue.drop(now)
    return [], 0.0


def _passed(stages: Sequence[Stage[Photo]], client: str, bulk: bool, photos: int) -> int:
    return sum(stage.passed(client, bulk, photos) for stage in stages)


def _failure(error: Exception) -> InferenceError:
    failure = InferenceError("this photo could not be processed: a fault of the service")
    failure.__cause__ = error
    return failure


def _run_together(run: Run, pixels: list[Pixels]) -> Answers:
    images = pixels[0][np.newaxis] if len(pixels) == 1 else np.stack(pixels)
    answers = run(images)
    if len(answers) != len(pixels):
        raise ValueError(f"expected {len(pixels)} answers, got {len(answers)}")
    return answers
