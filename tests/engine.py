"""A scheduler over sessions that a test opens and closes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import numpy as np

from service.batching import Scheduler
from service.classifier import Answers
from service.cost import CostModel
from service.errors import SuperbinError
from service.metrics import Metrics
from service.photos import Outcome, results_of
from service.preprocess import Pixels

POISON = 255
FOREVER_S = 60.0


def load(value: int) -> Pixels:
    return np.full((8, 8, 3), value, dtype=np.uint8)


class Gate:
    """Stands for a session: answers with each photo's own value, once it is let through."""

    def __init__(self, *, open: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Event()
        self._open = threading.Event()
        if open:
            self._open.set()

    def open(self) -> None:
        self._open.set()

    def __call__(self, images: Pixels) -> Answers:
        self.entered.set()
        assert self._open.wait(10)
        values = images[:, 0, 0, 0]
        self.batches.append([int(v) for v in values])
        if POISON in values:
            raise RuntimeError("poisoned")
        column = values.astype(np.float32)
        indices = np.zeros((len(values), 1), np.int64)
        return Answers(column[:, None], column[:, None], indices, column[:, None], column)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def with_deadline() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(with_deadline())


def scheduler(*gates: Gate, max_batch: int = 4, **others: Any) -> Scheduler:
    # One decoding thread keeps the order in which photos came.
    settings = {"decode_workers": 1, "max_batch": max_batch, "metrics": Metrics()} | others
    settings.setdefault("cost", CostModel([(1, 1.0), (64, 1.0)]))  # batches cost what one costs
    return Scheduler(list(gates), **settings)


async def entered(gate: Gate) -> None:
    await asyncio.to_thread(gate.entered.wait, 10)


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.001)


def ask(
    engine: Scheduler, *values: int, client: str = "a", timeout_s: float = FOREVER_S, **others: Any
) -> asyncio.Task[list[Outcome | SuperbinError]]:
    """One request of so many photos; its photos are waiting when the loop was passed once."""
    loads = [partial(load, value) for value in values]
    return asyncio.create_task(
        classify(engine, loads, client=client, timeout_s=timeout_s, **others)
    )


async def classify(
    engine: Scheduler, loads: list[Callable[[], Pixels]], **others: Any
) -> list[Outcome | SuperbinError]:
    with engine.submitted(loads, **others) as outcomes:
        return await results_of(outcomes)


def values(found: list[Outcome | SuperbinError]) -> list[Any]:
    """Each photo's own value, or the kind of its error."""
    return [
        int(one.answers.self_weight[0]) if isinstance(one, Outcome) else type(one) for one in found
    ]


async def waiting(engine: Scheduler, photos: int) -> None:
    """Until so many photos are decoded and wait for a session."""
    await until(lambda: len(engine._infer._queue) == photos)
