"""A model in memory: its sessions, its scheduler, and the requests that use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import structlog

from service.batching import Scheduler
from service.bundle import Bundle, Manifest
from service.cost import CostModel
from service.drift import DriftMonitor
from service.drift_reference import read_reference
from service.metrics import Metrics
from service.schemas import ModelId
from service.sessions import Sessions, open_sessions
from service.settings import Settings

log = structlog.get_logger()


@dataclass(eq=False)
class LoadedModel:
    """A bundle with its sessions, and how many requests use it."""

    sessions: Sessions
    scheduler: Scheduler
    drift: DriftMonitor | None = None  # where the bundle has a reference
    leases: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def bundle(self) -> Bundle:
        """What was loaded."""
        return self.sessions.first.bundle

    @property
    def manifest(self) -> Manifest:
        """Of the bundle."""
        return self.bundle.manifest

    @cached_property
    def id(self) -> ModelId:
        """Its name and version, as answers tell them."""
        return ModelId(name=self.manifest.name, version=self.manifest.version)

    @contextmanager
    def lease(self) -> Iterator[LoadedModel]:
        """Keep it loaded until the end of a request."""
        self.leases += 1
        try:
            yield self
        finally:
            self.leases -= 1
            if not self.leases:
                self.unused.set()

    async def retire(self) -> None:
        """Wait for the requests that use it, then let go of it."""
        while self.leases:
            self.unused.clear()
            await self.unused.wait()
        await self.scheduler.close()


async def open_model(
    path: Path,
    settings: Settings,
    metrics: Metrics,
    vet: Callable[[Manifest], None] | None = None,
) -> LoadedModel:
    """Open a bundle, tried and warmed up, that answers nobody yet. On an event loop.

    Args:
        vet: raises for a model that is not wanted, before its threads start.

    Raises:
        BundleError, ProviderError: where it cannot run as asked; and what `vet` raises.
    """
    sessions = await asyncio.to_thread(open_sessions, settings, path)
    if vet:
        vet(sessions.first.bundle.manifest)
    drift = _monitor(sessions.first.bundle, settings)
    scheduler = Scheduler(
        [worker.run for worker in sessions.workers],
        alone=sessions.alone.run if sessions.alone else None,
        decode_workers=sessions.decode_workers,
        max_batch=sessions.max_batch,
        max_delay_s=settings.max_delay_s,
        metrics=metrics,
        cost=CostModel(sessions.measured),
        doubts=sessions.doubts,
        watch_appearance=drift is not None and drift.reference.watches_appearance,
    )
    return LoadedModel(sessions, scheduler, drift)


def _monitor(bundle: Bundle, settings: Settings) -> DriftMonitor | None:
    """What watches the bundle's answers, where it has a reference and nobody turned it off."""
    if not settings.drift:
        return None
    reference = read_reference(bundle)
    if reference is None:
        told = "a drift reference in the bundle; superbin reference makes it"
        log.warning("drift is not watched", model=bundle.id, expected=told)
        return None
    return DriftMonitor(
        model=bundle.manifest.name,
        superclasses=bundle.manifest.superclasses,
        reference=reference,
        max_tags=settings.max_tags,
        most_per_s=settings.drift_photos_s,
    )
