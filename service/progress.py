"""Progress bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 30.0
Advance = Callable[[int], None]


@contextmanager
def track(
    label: str, total: int, done: int = 0, state: Callable[[], str] = lambda: ""
) -> Iterator[Advance]:
    """Yield a function that reports `n` more of `total` as done.

    Args:
        label: what is done.
        total: how many there are.
        done: how many were there before.
        state: what else to say, asked for whenever something is shown.
    """
    started = time.monotonic()
    count = done

    def rate() -> str:
        return ", ".join(filter(None, (pace(count - done, time.monotonic() - started), state())))

    with _bar(label, total, done) if sys.stderr.isatty() else _lines(label, total, done) as show:

        def advance(n: int) -> None:
            nonlocal count
            count += n
            show(count, rate)

        yield advance


def pace(count: int, seconds: float) -> str:
    """How fast it goes: so many a second, or the time that each takes where that is longer."""
    if count == 0 or count >= seconds:
        return f"{count / max(seconds, 1e-9):.1f} a second"
    return f"{duration(seconds / count)} each"


def duration(seconds: float) -> str:
    """In the largest unit of which it is two at least."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


Show = Callable[[int, Callable[[], str]], None]


@contextmanager
def _bar(label: str, total: int, done: int) -> Iterator[Show]:
    label_column = TextColumn("{task.description}", markup=False)
    columns = (label_column, BarColumn(), MofNCompleteColumn())
    told = (TextColumn("{task.fields[rate]}", markup=False), TimeRemainingColumn())
    with Progress(*columns, *told, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done, rate="")
        yield lambda count, rate: bar.update(task, completed=count, rate=rate())


@contextmanager
def _lines(label: str, total: int, done: int) -> Iterator[Show]:
    started = last = time.monotonic()

    def show(count: int, rate: Callable[[], str]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LOG_EVERY_S or count >= total:
            told = f"{label}: {count}/{total}, {rate()}"
            if done < count < total:
                told += f", {duration((now - started) / (count - done) * (total - count))} left"
            print(told, file=sys.stderr, flush=True)
            last = now

    yield show
