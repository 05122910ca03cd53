"""Photos to results on this machine: all cores at work, a bounded number of photos on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from service.bulk.inputs import in_groups
from service.classification import Answering, FileResult
from service.classifier import Answers, Classifier
from service.errors import SuperbinError
from service.preprocess import Pixels
from service.results import InferenceError
from service.schemas import Doubt
from service.sessions import Sessions

ON_A_CORE = 8  # photos that a thread takes at once, and runs one by one
AHEAD_ON_CORES = 8  # such groups on the way for each thread: enough to do while a part is written
AHEAD_DECODED = 4  # batches on the way for each session, where others decode


class Bad(NamedTuple):
    """What a photo has in place of pixels."""

    error: str


class Stream:
    """Decoding and the model, overlapped.

    Where sessions decode for themselves (on a CPU), a thread for each takes photos one by one, so
    that an answer is the one that the service gives for a photo that is alone. Otherwise threads
    decode ahead, and each session runs what they have as batches.
    """

    def __init__(self, sessions: Sessions, answering: Answering, max_batch: int) -> None:
        """Over open sessions; `max_batch` photos are run together where others decode."""
        self._answering = answering
        self._idle: SimpleQueue[Classifier] = SimpleQueue()
        for session in sessions.workers:
            self._idle.put(session)
        self._runners, self._decoders = len(sessions.workers), sessions.decode_workers
        self._group = min(max_batch, sessions.max_batch) if self._decoders else ON_A_CORE
        ahead = AHEAD_DECODED if self._decoders else AHEAD_ON_CORES
        self._window = self._runners * ahead

    def results(self, photos: Iterable[str], folder: Path) -> Generator[FileResult, None, None]:
        """In the photos' order.

        Args:
            photos: paths, taken as they are needed.
            folder: what relative ones are relative to.

        Raises:
            InferenceError: where the model fails; a bad photo is a result.
        """
        runners = ThreadPoolExecutor(self._runners)
        decoders = ThreadPoolExecutor(self._decoders) if self._decoders else None
        waiting: deque[Future[list[FileResult]]] = deque()
        try:
            for group in in_groups(photos, self._group):
                if decoders is None:
                    waiting.append(runners.submit(self._one_by_one, group, folder))
                else:
                    pixels = [decoders.submit(self._read, folder / photo) for photo in group]
                    waiting.append(runners.submit(self._together, group, pixels))
                if len(waiting) >= self._window:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for pool in filter(None, (decoders, runners)):
                pool.shutdown(cancel_futures=True)

    def _one_by_one(self, group: Sequence[str], folder: Path) -> list[FileResult]:
        """Decode all, then run each alone: each kind of work leaves the caches to itself."""
        found = [self._read(folder / photo) for photo in group]

        def run(session: Classifier, good: Sequence[Pixels]) -> list[Answers]:
            return [_run(session, pixels[np.newaxis]) for pixels in good]

        return self._told(group, found, run)

    def _together(
        self, group: Sequence[str], reading: Sequence[Future[Pixels | Bad]]
    ) -> list[FileResult]:
        found = [one.result() for one in reading]

        def run(session: Classifier, good: Sequence[Pixels]) -> list[Answers]:
            answers = _run(session, np.stack(good))
            return [answers[row : row + 1] for row in range(len(good))]

        return self._told(group, found, run)

    def _told(
        self,
        group: Sequence[str],
        found: Sequence[Pixels | Bad],
        run: Callable[[Classifier, Sequence[Pixels]], list[Answers]],
    ) -> list[FileResult]:
        good = [one for one in found if not isinstance(one, Bad)]
        doubts = iter(self._answering.doubts.of_pixels(good))
        answers: Iterator[Answers] = iter(())
        if good:
            session = self._idle.get()
            try:
                answers = iter(run(session, good))
            finally:
                self._idle.put(session)
        return [
            FileResult(photo, error=one.error)
            if isinstance(one, Bad)
            else self._answered(photo, next(answers), next(doubts))
            for photo, one in zip(group, found, strict=True)
        ]

    def _answered(self, photo: str, answers: Answers, doubts: Sequence[Doubt]) -> FileResult:
        try:
            return FileResult(photo, answer=self._answering.tell(answers, photo, doubts))
        except SuperbinError as error:  # the model's answer is no number
            return FileResult(photo, error=str(error))

    def _read(self, photo: Path) -> Pixels | Bad:
        try:
            return self._answering.read(photo)
        except SuperbinError as error:
            return Bad(str(error))
        except MemoryError:
            return Bad("this photo could not be processed: there is not enough memory")


def _run(session: Classifier, images: Pixels) -> Answers:
    try:
        return session.run(images)
    except Exception as error:  # the pybind exceptions share no narrower base
        raise InferenceError(f"the model failed: {error}") from error
