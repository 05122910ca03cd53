"""Photos run together, fail alone, and are never more than the queue may hold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from service.batching import Batcher, Outcome, QueueFull, Stopping
from service.classifier import Answers
from service.metrics import Metrics
from service.preprocess import Pixels
from service.results import InferenceError

POISON = 255


def photo(value: int) -> Pixels:
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
        async with asyncio.timeout(10):
            await test()

    asyncio.run(with_deadline())


def batcher(gate: Gate, max_batch: int = 4, max_queue: int = 100) -> Batcher:
    return Batcher(gate, max_batch=max_batch, max_queue=max_queue, metrics=Metrics())


async def entered(gate: Gate) -> None:
    await asyncio.to_thread(gate.entered.wait, 10)


def value(outcome: Outcome) -> int:
    assert len(outcome.answers) == 1
    return int(outcome.answers.self_weight[0])


def test_every_photo_gets_its_own_answer_whatever_the_order() -> None:
    async def test() -> None:
        gate = Gate()
        batches = batcher(gate)
        outcomes = await asyncio.gather(*(batches.classify(photo(v)) for v in range(50)))
        assert [value(outcome) for outcome in outcomes] == list(range(50))
        await batches.close()
        assert sorted(v for batch in gate.batches for v in batch) == list(range(50))

    run(test)


def test_a_lone_photo_runs_at_once_and_those_that_came_meanwhile_run_together() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        batches = batcher(gate, max_batch=4)
        first = asyncio.create_task(batches.classify(photo(0)))
        await entered(gate)
        later = [asyncio.create_task(batches.classify(photo(v))) for v in range(1, 8)]
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, *later)
        assert gate.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
        await batches.close()

    run(test)


def test_a_photo_that_fails_the_batch_fails_alone() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        batches = batcher(gate, max_batch=4)
        first = asyncio.create_task(batches.classify(photo(0)))
        await entered(gate)
        values = [1, POISON, 2]
        tasks = [asyncio.create_task(batches.classify(photo(v))) for v in values]
        await asyncio.sleep(0)
        gate.open()
        await first
        one, bad, two = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(one, Outcome)
        assert isinstance(two, Outcome)
        assert (value(one), value(two)) == (1, 2)
        assert isinstance(bad, InferenceError)
        assert isinstance(bad.__cause__, RuntimeError)
        assert value(await batches.classify(photo(3))) == 3  # and nothing is poisoned
        await batches.close()

    run(test)


def test_a_photo_whose_client_has_gone_is_not_run() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        batches = batcher(gate)
        first = asyncio.create_task(batches.classify(photo(0)))
        await entered(gate)
        gone = asyncio.create_task(batches.classify(photo(1)))
        stays = asyncio.create_task(batches.classify(photo(2)))
        await asyncio.sleep(0)
        gone.cancel()
        gate.open()
        await asyncio.gather(first, stays)
        assert gate.batches == [[0], [2]]
        await batches.close()

    run(test)


def test_a_client_that_leaves_while_its_photo_runs_harms_nobody() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        batches = batcher(gate)
        gone = asyncio.create_task(batches.classify(photo(0)))
        await entered(gate)
        gone.cancel()
        stays = asyncio.create_task(batches.classify(photo(1)))
        await asyncio.sleep(0)
        gate.open()
        assert value(await stays) == 1
        await batches.close()

    run(test)


def test_places_are_given_to_all_photos_of_a_request_or_to_none() -> None:
    async def test() -> None:
        batches = batcher(Gate(), max_queue=10)
        with batches.places(6):
            with pytest.raises(QueueFull, match="at most 10 photos in the queue, which holds 6"):
                batches.places(5).__enter__()
            with batches.places(4):
                pass
        with pytest.raises(ValueError, match="any"), batches.places(10):
            raise ValueError("any")
        with batches.places(10):
            pass
        await batches.close()

    run(test)


def test_closing_answers_what_waits_and_takes_nothing_new() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        batches = batcher(gate, max_batch=2)
        tasks = [asyncio.create_task(batches.classify(photo(v))) for v in range(5)]
        await entered(gate)
        closing = asyncio.create_task(batches.close())
        await asyncio.sleep(0)
        with pytest.raises(Stopping):
            batches.places(1).__enter__()
        with pytest.raises(Stopping):
            await batches.classify(photo(9))
        gate.open()
        assert [value(outcome) for outcome in await asyncio.gather(*tasks)] == list(range(5))
        await closing

    run(test)
