"""A second model that sees a share of the photos: its answers are compared, and never returned."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from service.errors import SuperbinError
from service.metrics import Metrics
from service.photos import Outcome, pixels_of, results_of
from service.preprocess import PhotoLimits, Pixels
from service.registry import LoadedModel

log = structlog.get_logger()

MOST_PHOTOS = 64  # that wait, and are not compared yet; what comes on top is skipped and counted
MOST_BYTES = 32_000_000  # of them, which no queue counts once their request is answered
CLIENT = "shadow"


@dataclass(eq=False)
class Shadow:
    """The shadow model, and what it is doing."""

    model: LoadedModel
    share: float
    limits: PhotoLimits
    timeout_s: float
    metrics: Metrics
    working: set[asyncio.Task[None]] = field(default_factory=set)
    photos: int = 0
    nbytes: int = 0

    def wants(self, answering: LoadedModel) -> bool:
        """Whether the shadow sees the next request to that model.

        Never where there is nothing to compare, as after a swap to one with other superclasses, or
        to the shadow's own version.
        """
        mine, its = self.model.manifest, answering.manifest
        alike = mine.name == its.name and mine.superclasses == its.superclasses
        return alike and mine.version != its.version and random.random() < self.share

    def follow(
        self, came: Sequence[bytes | Pixels | None], outcomes: Sequence[asyncio.Future[Outcome]]
    ) -> None:
        """Run photos beside the model that answers; returns at once.

        Args:
            came: encoded photos, or pixels, of which those of another size than the shadow's are
                left out; None for a photo that was too large to be kept.
            outcomes: the answers that are given, to come.
        """
        pairs = zip(came, outcomes, strict=True)
        kept = [(photo, outcome) for photo, outcome in pairs if self._can_see(photo)]
        if not kept:
            return
        photos, answered = zip(*kept, strict=True)
        nbytes = sum(len(one) if isinstance(one, bytes) else one.nbytes for one in photos)
        if self.photos + len(photos) > MOST_PHOTOS or self.nbytes + nbytes > MOST_BYTES:
            self._count("skipped", len(photos))
            return
        self._hold(len(photos), nbytes)
        task = asyncio.create_task(self._compare(photos, answered), name="shadow")
        self.working.add(task)
        task.add_done_callback(self.working.discard)
        task.add_done_callback(lambda _: self._hold(-len(photos), -nbytes))

    def _hold(self, photos: int, nbytes: int) -> None:
        self.photos += photos
        self.nbytes += nbytes

    def _can_see(self, photo: bytes | Pixels | None) -> bool:
        if photo is None or isinstance(photo, bytes):
            return photo is not None
        spec = self.model.manifest.preprocessing
        return photo.shape[:2] == (spec.height, spec.width)

    async def close(self) -> None:
        """Let go of the model."""
        for task in self.working:
            task.cancel()
        await asyncio.gather(*self.working, return_exceptions=True)
        await self.model.retire()

    async def _compare(
        self, photos: Sequence[bytes | Pixels], answered: Sequence[asyncio.Future[Outcome]]
    ) -> None:
        spec = self.model.manifest.preprocessing
        loads = [partial(pixels_of, photo, spec, self.limits) for photo in photos]
        with (
            self.model.lease(),
            self.model.scheduler.submitted(
                loads, client=CLIENT, bulk=True, timeout_s=self.timeout_s
            ) as outcomes,
        ):
            found = await results_of(outcomes)
        await asyncio.wait(answered)
        for one, shadowed in zip(answered, found, strict=True):
            if one.cancelled() or one.exception():
                continue  # without an answer there is nothing to compare
            if isinstance(shadowed, SuperbinError):
                self._count("failed")
                log.warning("shadow failed", model=self.model.bundle.id, error=str(shadowed))
                continue
            same = _answer(one.result()) == _answer(shadowed)
            self._count("agreed" if same else "disagreed")

    def _count(self, outcome: str, photos: int = 1) -> None:
        self.metrics.shadow(self.model.bundle.id, outcome, photos)


def _answer(outcome: Outcome) -> int:
    """The place of the superclass; both models have the same ones."""
    return int(outcome.answers.probabilities[0].argmax())
