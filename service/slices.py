"""How long the kernel lets a thread work before others of the same core have their turn.

Linux's scheduler (EEVDF) gives each thread slices of about three milliseconds. A thread that works
on several photos for longer than that loses its core, and its caches, to the event loop and to its
neighbours, in the middle of them. With longer slices it has fewer and longer turns for the same
share of the core, and whoever asks for short ones, as the event loop does, comes sooner.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

NUMBERS = {"x86_64": 314, "aarch64": 274}  # of sched_setattr, which C libraries have but lately
RESET_ON_FORK = 1  # a flag: threads that are begun by this one have usual slices
SHORTEST_S, LONGEST_S = 0.0001, 0.1  # to the kernel; it takes the nearest


class _Attributes(ctypes.Structure):
    """The first version of the kernel's `struct sched_attr`, see sched_setattr(2)."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),  # nanoseconds: of a usual thread its slice
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def take_slices(seconds: float) -> bool:
    """Ask for slices of this length for the calling thread; its priority stays as it is.

    Returns:
        Whether the kernel took it. One before Linux 6.12 takes it and does nothing; another system,
        a sandbox that forbids it, or a thread with a policy of its own (real time) leaves all as
        it was.
    """
    number = NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        return False
    try:
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
            return False
        asked = _Attributes(
            size=ctypes.sizeof(_Attributes),
            policy=os.SCHED_OTHER,
            flags=RESET_ON_FORK,
            nice=os.getpriority(os.PRIO_PROCESS, 0),  # of this thread, on Linux
            runtime=round(min(max(seconds, SHORTEST_S), LONGEST_S) * 1e9),
        )
        done: int = ctypes.CDLL(None).syscall(number, 0, ctypes.byref(asked), 0)
    except OSError:  # a sandbox that does not even tell
        return False
    return done == 0
