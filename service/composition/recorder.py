"""The thread that writes the tally down: every few seconds, and at the end.

A process that is killed loses what it counted since the last write, an interval at most. While the
database is away counts wait in memory; a batch that may or may not have arrived is sent again under
its number, and added once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from service.composition.tally import Tally
from service.errors import SuperbinError
from service.metrics import Metrics
from service.review.records import StoreUnavailable

if TYPE_CHECKING:  # which needs packages that are there only where reports are wanted
    from service.composition.store import CompositionStore

log = structlog.get_logger()

NICE = 10  # the writer leaves the cores to those who answer
UPKEEP_S = 3600.0  # between looks for what is too old
PLACE_DAYS = 30.0  # after which a place that sends nothing makes room for another
CLOSE_S = 10.0  # that the last write may take


class Recorder:
    """Takes answers from the event loop and puts their counts into a store."""

    def __init__(
        self,
        store: CompositionStore,
        tally: Tally,
        interval_s: float,
        days: float,
        metrics: Metrics,
    ) -> None:
        """Start the thread.

        Args:
            interval_s: between two writes.
            days: that counts are kept; 0 is for ever.
        """
        self.store = store
        self.count = tally.count
        self._tally = tally
        self._interval_s, self._days = interval_s, days
        self._metrics = metrics
        self._writer = uuid4().hex
        self._closing = threading.Event()
        self._away = False
        self._upkeep_at = 0.0
        self._thread = threading.Thread(target=self._work, name="composition", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, in one try, then let go of the store; blocks, for seconds at most."""
        self._closing.set()
        self._thread.join(CLOSE_S)
        if photos := self._tally.photos:
            log.error("counts lost: the database is away", photos=photos)
            self._metrics.tally("lost", photos)
        if not self._thread.is_alive():
            self.store.close()

    # On the thread.

    def _work(self) -> None:
        with suppress(OSError):  # a container may not allow it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        ending = False
        while not ending:
            self._guarded(self._keep_up)
            ending = self._closing.wait(self._interval_s)
            self._guarded(self._write)

    def _guarded(self, act: Callable[[], None]) -> None:
        """Do it; what goes wrong is logged once, until it goes right again."""
        try:
            act()
        except SuperbinError as error:
            if not self._away:
                told = "away" if isinstance(error, StoreUnavailable) else "not to be used"
                log.error(f"counts wait: the database is {told}", error=str(error))
            self._away = True
        except Exception:  # a thread that ends here would be missed for ever
            log.exception("unexpected error")

    def _write(self) -> None:
        if dropped := self._tally.take_dropped():
            log.warning("counts dropped: too many wait to be written", photos=dropped)
            self._metrics.tally("dropped", dropped)
        while (batch := self._tally.take()) is not None:
            self.store.add(self._writer, batch)
            self._tally.wrote()
            self._metrics.tally("written", batch.photos)
            if self._away:
                log.info("counts are written again")
            self._away = False

    def _keep_up(self) -> None:
        """Now and then remove what is too old, and make room for new places."""
        if time.monotonic() < self._upkeep_at:
            return
        if gone := self.store.prune(self._days):
            log.info("old counts removed", rows=gone, days=self._days)
        self._tally.know(self.store.places(PLACE_DAYS))
        self._upkeep_at = time.monotonic() + UPKEEP_S
