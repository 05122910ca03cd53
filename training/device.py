"""Which device to train on; an asked one that is missing is an error, never a fallback."""

from __future__ import annotations

import ctypes
import sys

import torch

from training.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


def pick_device(name: str) -> str:
    """`auto` takes a GPU where there is one.

    Raises:
        ConfigError: where the device that was asked for is not there.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in {"cpu", "cuda"} or (index and not (kind == "cuda" and index.isdecimal())):
        raise ConfigError(f"expected a device of auto, cpu, cuda or cuda:N, got {name!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} was asked for; torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} GPUs"
        )
    return name


def keep_freed_memory() -> None:
    """Let glibc keep what a training step frees instead of giving it back to the kernel.

    A step frees and asks again for the same hundreds of megabytes; without this, each time at the
    price of fresh page faults: a fifth of an EfficientNet step on a CPU.
    """
    if sys.platform == "linux":
        try:
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
            libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        except (OSError, AttributeError):
            return  # another C library: nothing to tune
