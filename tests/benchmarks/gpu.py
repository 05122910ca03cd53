"""How busy GPUs are, by nvidia-smi, and when they are done."""

from __future__ import annotations

import math
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PERIOD_MS = 200


def wait_for(device: str) -> None:
    """Until all that was queued there is done."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def busiest(shares: list[float]) -> float:
    """Of several GPUs, that on which one process trains; nan where nobody told."""
    return max(shares, default=math.nan)


@contextmanager
def busy(device: str = "cuda") -> Iterator[list[float]]:
    """Gets, at the end, the mean share of the time in which each GPU ran anything.

    Nothing where the device is no GPU, or there is no nvidia-smi.
    """
    shares: list[float] = []
    command = ["nvidia-smi", "--query-gpu=index,utilization.gpu", "--format=csv,noheader,nounits"]
    if not device.startswith("cuda") or shutil.which(command[0]) is None:
        yield shares
        return
    looking = subprocess.Popen(
        [*command, f"--loop-ms={PERIOD_MS}"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield shares
    finally:
        looking.terminate()
        told, _ = looking.communicate()
        seen: dict[str, list[float]] = {}
        for line in told.splitlines():
            index, _, share = line.partition(",")
            if share.strip().isdecimal():  # not so where a GPU does not tell
                seen.setdefault(index, []).append(int(share) / 100)
        shares += [statistics.mean(values) for values in seen.values()]
