"""One photo on its way from a request to its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.appearance import Appearance
from service.classifier import Answers
from service.errors import SuperbinError, forget_frames
from service.preprocess import PhotoLimits, Pixels, Preprocessing, decode
from service.schemas import Doubt


class DeadlineExceeded(SuperbinError):
    """A photo was not answered within the time that its request had."""

    reason = "deadline"


@dataclass(frozen=True)
class Outcome:
    """What came of one photo: its row of answers (N = 1), and where the time went.

    Attributes:
        watched: whether drift is to see it.
        appearance: [A], where it is watched, and the scheduler was told to measure it.
    """

    answers: Answers
    decode_s: float
    queue_s: float
    infer_s: float
    doubts: tuple[Doubt, ...] = ()
    watched: bool = False
    appearance: Appearance | None = None


@dataclass(eq=False)
class Photo:
    """One photo on its way; times are of `time.monotonic`.

    Attributes:
        load: gives its pixels, [H, W, 3]; called on a decoding thread, once.
        pixels: from then on, until it has run or nobody wants it.
        client: who sent it; clients take turns.
        bulk: whether it may wait for the photos that people wait for.
        is_watched: says whether drift is to see it; asked once its pixels are there, on the
            thread that decoded it. None where it is not.
    """

    load: Callable[[], Pixels]
    client: str
    bulk: bool
    is_watched: Callable[[], bool] | None
    deadline: float
    outcome: asyncio.Future[Outcome]
    since: float = field(default_factory=time.monotonic)
    pixels: Pixels | None = None
    decode_s: float = 0.0
    watched: bool = False
    doubts: tuple[Doubt, ...] = ()  # about its pixels
    appearance: Appearance | None = None

    @property
    def unwanted(self) -> bool:
        """Whether its client has gone, or has been answered already."""
        return self.outcome.done()

    def forget(self) -> None:
        """Hold nothing of it any more: no limit counts what nobody waits for."""
        self.load = _forgotten
        self.pixels = None


def pixels_of(photo: bytes | Pixels, spec: Preprocessing, limits: PhotoLimits) -> Pixels:
    """An encoded photo's, as a model sees it; pixels are that already.

    Raises:
        PhotoError: as `service.preprocess.decode`.
    """
    return decode(photo, spec, limits) if isinstance(photo, bytes) else photo


def _forgotten() -> Pixels:
    raise DeadlineExceeded("expected somebody who waits for this photo, got nobody any more")


def let_go(outcome: asyncio.Future[Outcome]) -> bool:
    """Whether it was cancelled, if not now then with the task that waited for it.

    An error that nobody will ask for is no news either.
    """
    if outcome.cancel() or outcome.cancelled():
        return True
    if error := outcome.exception():
        forget_frames(error)  # of those that waited for it
    return False


def result_of(outcome: asyncio.Future[Outcome]) -> Outcome | SuperbinError:
    """What a photo's future has; a bad photo's error is an answer too."""
    error = outcome.exception()
    if not isinstance(error, SuperbinError):
        return outcome.result()
    forget_frames(error)  # of those that waited for it
    return error


async def results_of(outcomes: Sequence[asyncio.Future[Outcome]]) -> list[Outcome | SuperbinError]:
    """All of a request's, in order."""
    await asyncio.wait(outcomes)
    return [result_of(outcome) for outcome in outcomes]
