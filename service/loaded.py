"""A model in memory: its sessions, its scheduler, and the requests that use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from service.batching import Scheduler
from service.bundle import Bundle, Manifest
from service.drift import DriftMonitor
from service.schemas import ModelId
from service.sessions import Sessions


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
