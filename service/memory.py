"""Freed memory goes back to the system, and what is made at once is not looked through meanwhile.

glibc keeps what is freed between blocks that are in use, of each thread by itself: every round of
large bodies leaves more of it, until a container's limit is reached by memory that nobody uses.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import mmap
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_S = 1.0
MOST_S = 60.0  # between looks, where giving back brings nothing: memory is in use, then
GROWN_BYTES = 128_000_000  # over the least that there was, from which on it is worth a try
STATM = Path("/proc/self/statm")


async def give_back_freed() -> None:
    """Give back what is freed whenever much more is resident than there was; runs until cancelled.

    Ends at once where the C library is another.
    """
    trim = _trimming()
    if trim is None:
        return
    least, wait_s = resident_bytes(), LOOK_S
    while True:
        await asyncio.sleep(wait_s)
        before = resident_bytes()
        least = min(least, before)
        if before < least + GROWN_BYTES:
            wait_s = LOOK_S
            continue
        await asyncio.to_thread(trim, 0)
        gained = before - resident_bytes() > GROWN_BYTES
        wait_s = LOOK_S if gained else min(2 * wait_s, MOST_S)


def give_back_now() -> None:
    """Give back what is freed, after something large, where the C library can."""
    if trim := _trimming():
        trim(0)


def resident_bytes() -> int:
    """Of this process, in memory."""
    return int(STATM.read_text().split()[1]) * mmap.PAGESIZE


def _trimming() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None where there is none."""
    if sys.platform != "linux":
        return None
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found


@contextmanager
def uncollected() -> Iterator[None]:
    """Make very many objects at once, none of them garbage, through which nobody need look.

    The collector would, again and again, with everybody waiting for Python's lock meanwhile.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
