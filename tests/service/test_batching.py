"""Photos run together, fail alone, keep to their time, and are dropped when nobody wants them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import numpy as np
import pytest

from service.batching import DeadlineExceeded, Outcome, Scheduler, results_of
from service.classifier import Answers
from service.cost import CostModel
from service.errors import PhotoBroken, SuperbinError
from service.metrics import Metrics
from service.preprocess import Pixels
from service.results import InferenceError

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


@pytest.mark.parametrize("decode_workers", [0, 1, 3])
def test_every_photo_gets_its_own_answer_whatever_the_order(decode_workers: int) -> None:
    async def test() -> None:
        gates = [Gate(), Gate()]
        engine = scheduler(*gates, decode_workers=decode_workers)
        requests = [ask(engine, *range(i, i + i % 7 + 1), client=str(i % 5)) for i in range(60)]
        for i, found in enumerate(await asyncio.gather(*requests)):
            assert values(found) == list(range(i, i + i % 7 + 1))
        assert engine.backlog.photos == 0
        await engine.close()

    run(test)


def test_a_lone_photo_runs_at_once_and_those_that_came_meanwhile_run_together() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate, max_batch=4)
        first = ask(engine, 0)
        await entered(gate)
        later = ask(engine, *range(1, 8))
        await waiting(engine, 7)
        gate.open()
        await asyncio.gather(first, later)
        assert gate.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
        await engine.close()

    run(test)


def test_what_waits_is_shared_among_sessions_that_are_idle() -> None:
    async def test() -> None:
        gates = [Gate(open=False), Gate(open=False)]
        engine = scheduler(*gates, max_batch=8)
        request = ask(engine, *range(6))
        await asyncio.gather(*map(entered, gates))
        for gate in gates:
            gate.open()
        await request
        sizes = sorted(sum(map(len, gate.batches)) for gate in gates)
        assert sum(sizes) == 6
        assert sizes[0] >= 1
        await engine.close()

    run(test)


def test_a_photo_that_is_alone_has_a_session_of_its_own() -> None:
    async def test() -> None:
        wide, narrow = Gate(), Gate()
        engine = scheduler(narrow, alone=wide, decode_workers=0)
        await ask(engine, 1)
        await ask(engine, 2, 3)
        await ask(engine, 4)
        assert wide.batches == [[1], [4]]
        assert sorted(value for batch in narrow.batches for value in batch) == [2, 3]
        await engine.close()

    run(test)


def test_a_delay_is_waited_for_a_fuller_batch_and_no_longer_than_until_it_is_full() -> None:
    async def test() -> None:
        gate = Gate()
        engine = scheduler(gate, max_batch=3, max_delay_s=FOREVER_S)
        requests = [ask(engine, value) for value in range(3)]
        await asyncio.gather(*requests)
        assert gate.batches == [[0, 1, 2]]
        await engine.close()

    run(test)


def test_a_photo_that_fails_the_batch_fails_alone() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate)
        first = ask(engine, 0)
        await entered(gate)
        request = ask(engine, 1, POISON, 2)
        await waiting(engine, 3)
        gate.open()
        await first
        found = await request
        assert values(found) == [1, InferenceError, 2]
        assert isinstance(found[1], InferenceError)
        assert isinstance(found[1].__cause__, RuntimeError)
        assert values(await ask(engine, 3)) == [3]  # and nothing is poisoned
        await engine.close()

    run(test)


@pytest.mark.parametrize("decode_workers", [0, 2])
def test_a_photo_that_does_not_decode_fails_alone(decode_workers: int) -> None:
    def broken(error: Exception) -> Pixels:
        raise error

    async def test() -> None:
        engine = scheduler(Gate(), decode_workers=decode_workers)
        loads = [
            partial(load, 1),
            partial(broken, PhotoBroken("half a photo")),
            partial(broken, MemoryError()),
            partial(load, 2),
        ]
        found = await classify(engine, loads, client="a", timeout_s=FOREVER_S)
        assert values(found) == [1, PhotoBroken, InferenceError, 2]
        await engine.close()

    run(test)


def test_photos_whose_client_has_gone_are_not_run() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate)
        first = ask(engine, 0)
        await entered(gate)
        gone, stays = ask(engine, 1, 2), ask(engine, 3)
        await waiting(engine, 3)
        gone.cancel()
        await asyncio.wait([gone])
        assert engine.backlog.photos == 2
        gate.open()
        await asyncio.gather(first, stays)
        assert gate.batches == [[0], [3]]
        assert engine.backlog.photos == 0
        await engine.close()

    run(test)


def test_a_client_that_leaves_while_its_photo_runs_harms_nobody() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate)
        gone = ask(engine, 0)
        await entered(gate)
        gone.cancel()
        stays = ask(engine, 1)
        await waiting(engine, 1)
        gate.open()
        assert values(await stays) == [1]
        assert engine.backlog.photos == 0
        await engine.close()

    run(test)


def test_a_photo_that_is_late_is_told_so_and_is_not_run() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate)
        first = ask(engine, 0)
        await entered(gate)
        late, patient = ask(engine, 1, timeout_s=0.01), ask(engine, 2)
        (error,) = await late
        assert isinstance(error, DeadlineExceeded)
        assert "within 0.01 s" in str(error)
        gate.open()
        assert values(await first) + values(await patient) == [0, 2]
        assert gate.batches == [[0], [2]]
        assert engine.backlog.photos == 0
        await engine.close()

    run(test)


def test_no_photo_is_made_late_by_a_bigger_batch() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        line = [(photos, 40.0 + 10.0 * photos) for photos in (1, 2, 4, 8)]
        engine = scheduler(gate, max_batch=8, cost=CostModel(line * 100))
        first = ask(engine, 0, client="first")
        await entered(gate)
        patient = ask(engine, 1, 2, 3, 4, 5, client="patient", timeout_s=1000.0)
        await waiting(engine, 5)
        urgent = ask(engine, 6, client="urgent", timeout_s=75.0)
        await waiting(engine, 6)
        gate.open()
        await asyncio.gather(first, patient, urgent)
        assert gate.batches[1] == [1, 6, 2]  # in turn, and a fourth would make 6 late
        await engine.close()

    run(test)


def test_where_batches_gain_nothing_photos_run_one_by_one() -> None:
    async def test() -> None:
        gate = Gate(open=False)
        cost = CostModel([(1, 1.0), (8, 9.0)] * 100)  # a CPU: eight together take longer
        engine = scheduler(gate, max_batch=8, cost=cost)
        request = ask(engine, *range(5))
        await waiting(engine, 4)
        gate.open()
        await request
        assert gate.batches == [[0], [1], [2], [3], [4]]
        await engine.close()

    run(test)


@pytest.mark.parametrize("bulk", [False, True])
def test_one_photo_does_not_wait_for_all_of_anothers(bulk: bool) -> None:
    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate, max_batch=2)
        first = ask(engine, 0, client="bulk")
        await entered(gate)
        many = ask(engine, *range(1, 21), client="bulk", bulk=bulk)
        await waiting(engine, 20)
        one = ask(engine, 99, client="single")
        await waiting(engine, 21)
        gate.open()
        await asyncio.gather(first, many, one)
        assert 99 in gate.batches[1]
        await engine.close()

    run(test)


@pytest.mark.parametrize("decode_workers", [0, 1])
def test_closing_answers_what_waits(decode_workers: int) -> None:
    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate, max_batch=2, decode_workers=decode_workers)
        request = ask(engine, *range(5))
        await entered(gate)
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        gate.open()
        await closing
        assert values(await request) == list(range(5))

    run(test)
