"""Progress bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.distributed import rank

LOG_EVERY_S = 30.0


@contextmanager
def track(label: str, total: int, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that reports `n` more of `total` as done."""
    if rank() > 0:  # of several processes one speaks
        yield lambda n: None
        return
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total, completed=done)
            yield lambda n: bar.advance(task, n)
        return
    started = last = time.monotonic()
    count = done

    def advance(n: int) -> None:
        nonlocal count, last
        count += n
        now = time.monotonic()
        if now - last >= LOG_EVERY_S or count >= total:
            rate = (count - done) / max(now - started, 1e-9)
            print(f"{label}: {count}/{total}, {rate:.1f} a second", file=sys.stderr, flush=True)
            last = now

    yield advance
