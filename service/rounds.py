"""What is done again and again while the service runs, and outlives a round that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()


async def every(seconds: float, what: str, do: Callable[[], Awaitable[None]]) -> None:
    """Do it, after a pause and then after each further one; runs until it is cancelled.

    Args:
        what: is done, for the log.
    """
    while True:
        await asyncio.sleep(seconds)
        try:
            await do()
        except Exception:  # nobody waits for this task: it would end without a word
            log.exception("a round failed", of=what)
