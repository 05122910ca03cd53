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
from service.photos import Outcome, results_of
from service.preprocess import PhotoLimits, decode
from service.registry import LoadedModel

log = structlog.get_logger()

MOST_WAITING = 64  # photos; what comes on top is skipped and counted
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

    def wants(self, answering: LoadedModel) -> bool:
        """Whether the shadow sees the next request to that model.

        Never where the two cannot be compared, as after a swap to one with other superclasses.
        """
        mine, its = self.model.manifest, answering.manifest
        alike = mine.name == its.name and mine.superclasses == its.superclasses
        return alike and random.random() < self.share

    def follow(
        self, data: Sequence[bytes | None], outcomes: Sequence[asyncio.Future[Outcome]]
    ) -> None:
        """Run encoded photos beside the model that answers; returns at once.

        Args:
            data: None for a photo that was too large to be kept.
            outcomes: the answers that are given, to come.
        """
        pairs = zip(data, outcomes, strict=True)
        kept = [(photo, outcome) for photo, outcome in pairs if photo is not None]
        if not kept:
            return
        photos, answered = zip(*kept, strict=True)
        if self.model.scheduler.backlog.photos + len(photos) > MOST_WAITING:
            self._count("skipped", len(photos))
            return
        task = asyncio.create_task(self._compare(photos, answered), name="shadow")
        self.working.add(task)
        task.add_done_callback(self.working.discard)

    async def close(self) -> None:
        """Let go of the model."""
        for task in self.working:
            task.cancel()
        await asyncio.gather(*self.working, return_exceptions=True)
        await self.model.retire()

    async def _compare(
        self, photos: Sequence[bytes], answered: Sequence[asyncio.Future[Outcome]]
    ) -> None:
        manifest = self.model.manifest
        loads = [partial(decode, data, manifest.preprocessing, self.limits) for data in photos]
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
