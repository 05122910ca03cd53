"""What ends a service that was asked to stop and cannot: a session or a load that never returns."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NoReturn

import structlog

log = structlog.get_logger()

CUT_SHORT = 4  # the status of a process that was ended with work in hand
TELL_S = 2.0  # that the last lines may take: nobody may be reading them
OWN = Path(__file__).parent


class LastResort:
    """A thread that ends the process when its time is over, whatever the others wait for."""

    def __init__(self, let_go: Callable[[], bool]) -> None:
        """Nothing is ended before `within` was called.

        Args:
            let_go: whether all was written and closed, so that only a load can be what lasts.
        """
        self._let_go = let_go
        self._asked: SimpleQueue[float] = SimpleQueue()  # which a signal may put into

    def start(self) -> None:
        """Begin to wait for `within`."""
        threading.Thread(target=self._watch, name="last-resort", daemon=True).start()

    def within(self, seconds: float) -> None:
        """End the process by then at the latest; for signal handlers, too."""
        self._asked.put(time.monotonic() + seconds)

    def _watch(self) -> None:
        end = self._asked.get()
        while (left := end - time.monotonic()) > 0:
            try:
                end = min(end, self._asked.get(timeout=left))
            except Empty:
                break
        if self._let_go():
            leave(0, lambda: log.info("stopped while loading", threads=_busy()))
        told = "stopped by force: threads do not end"
        leave(CUT_SHORT, lambda: log.error(told, threads=_busy()))


def leave(status: int, tell: Callable[[], object]) -> NoReturn:
    """Log why, and end the process without waiting for threads."""

    def told() -> None:
        tell()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()

    telling = threading.Thread(target=told, name="last-words", daemon=True)
    telling.start()
    telling.join(TELL_S)
    os._exit(status)


def _busy() -> list[str]:
    """Each thread that is in the middle of something of the service's, and where."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = []
    for ident, frame in sys._current_frames().items():
        stack = [(Path(one.filename), one) for one in traceback.extract_stack(frame)]
        own = [(path, one) for path, one in stack if path.is_relative_to(OWN)]
        if own and own[-1][0] != Path(__file__):
            path, last = own[-1]
            where = f"{path.relative_to(OWN)}:{last.lineno}"
            found.append(f"{names.get(ident, ident)}: {last.name}, {where}")
    return sorted(found)
