"""Cores that this process may use: its affinity, or a container's quota where that is less.

A quota is a control group's, of version 2 or 1. The group may lie in others, and the smallest of
their quotas holds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")
GROUPS = "proc/self/cgroup"
MOUNTS = "sys/fs/cgroup"
CPU = "cpu"  # the controller, and by custom where version 1 has it


def available_cores(root: Path = ROOT) -> int:
    """How many there are for this process; one at least.

    Args:
        root: what `/proc` and `/sys` lie in.
    """
    cores = len(os.sched_getaffinity(0))
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Cores that each group around this process has, where that is told and limited."""
    mounts = root / MOUNTS
    # A container sees its own group where it is mounted, whatever its path may be outside.
    for controllers, group in [("", "/"), (CPU, "/"), *_groups(root / GROUPS)]:
        if not controllers:
            for folder in _outward(mounts, group):
                yield from _quota(folder / "cpu.max")
        elif CPU in controllers.split(","):
            for name in {CPU, controllers}:
                for folder in _outward(mounts / name, group):
                    yield from _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _groups(file: Path) -> Iterator[tuple[str, str]]:
    """Controllers, none for version 2, and the path of the group, as in `4:cpu,cpuacct:/a/b`."""
    try:
        lines = file.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, told = line.partition(":")
        controllers, colon, group = told.partition(":")
        if colon:
            yield controllers, group


def _outward(mount: Path, group: str) -> Iterator[Path]:
    """The folder of a group, then of those that it lies in."""
    inside = PurePosixPath(group.lstrip("/"))
    if ".." in inside.parts:  # it is outside of what this process may see
        inside = PurePosixPath()
    for path in (inside, *inside.parents):
        yield mount / path


def _quota(*files: Path) -> Iterator[float]:
    """Time over period, which stand in one file or in two; nothing where there is no such limit."""
    try:
        time, period = (int(word) for file in files for word in file.read_text().split())
        if time > 0 and period > 0:
            yield time / period
    except (OSError, ValueError, ArithmeticError):  # not here, or `max`, or no such thing
        return
