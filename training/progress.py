"""Progress bars as the service has them; of several processes one speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service import progress
from training.distributed import rank


@contextmanager
def track(label: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that reports `n` more of `total` as done."""
    if rank() > 0:
        yield lambda n: None
        return
    with progress.track(label, total, done) as advance:
        yield advance
