"""Log lines as JSON on stdout, our own and the server's alike."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TextIO, cast

import structlog


class Lines:
    """What takes lines for a file, and loses those that cannot be written.

    The reader of a pipe may end and a disk be full, and whoever logs then has an answer to give or
    a thread to keep. Nothing waits in a buffer, whose flush at the end would fail the process.
    """

    def __init__(self, fd: int | None = None) -> None:
        """None, until it is opened, loses all."""
        self.fd = fd
        self.lose: Callable[[], object] = lambda: None  # called for each line that is lost
        self._lock = threading.Lock()
        self._torn = False  # whether the last line ended before its end

    def write(self, line: str) -> None:
        """Write a line with its end, or lose it."""
        try:
            with self._lock:
                self._write(line)
        except (OSError, ValueError):
            self.lose()

    def _write(self, line: str) -> None:
        if self.fd is None:
            raise ValueError("no file")
        left = ("\n" + line if self._torn else line).encode()
        while left:
            left = left[os.write(self.fd, left) :]
            self._torn = bool(left)

    def flush(self) -> None:
        """There is nothing to flush."""


stdout = Lines()


def configure(level: str, **always: object) -> None:
    """Set up logging for the whole process; called once, by the command that serves.

    Args:
        always: what every line is to say.
    """
    shared: list[structlog.types.Processor] = [
        lambda logger, name, event: {**event, **always},
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    # None where it was closed before the start: its number may be that of a socket by now.
    stdout.fd = sys.stdout.fileno() if sys.stdout else None
    handler = logging.StreamHandler(stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(allow=())],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    structlog.configure(  # written at once: a detour by way of `logging` costs five times as much
        processors=[*shared, structlog.processors.JSONRenderer()],
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, stdout)),
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        cache_logger_on_first_use=True,
    )
