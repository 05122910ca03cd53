"""Photos run together, get their own answers, and fail alone."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest

from service.appearance import measure_appearance
from service.batching import Scheduler
from service.classifier import Answers
from service.cost import CostModel
from service.doubts import Doubts
from service.errors import PhotoBroken, SuperbinError
from service.metrics import Metrics
from service.photos import Outcome
from service.preprocess import Pixels
from service.results import InferenceError
from tests.engine import (
    FOREVER_S,
    POISON,
    Gate,
    ask,
    classify,
    entered,
    load,
    run,
    scheduler,
    until,
    values,
    waiting,
)


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


async def spared() -> tuple[Scheduler, list[Gate], list[asyncio.Task[Any]]]:
    """Two cores at work, two photos that wait, and a thread more that has left those to them."""
    gates = [Gate(open=False) for _ in range(3)]
    engine = scheduler(*gates, spare=1, decode_workers=0, max_batch=1)
    requests = [ask(engine, 0), ask(engine, 1)]
    await until(lambda: sum(gate.entered.is_set() for gate in gates) == 2)
    requests.append(ask(engine, 2, 3))
    await waiting(engine, 2)
    await until(lambda: len(engine._infer._asleep) == 1)  # woken for these, and asleep again
    return engine, gates, requests


def test_a_thread_more_than_cores_takes_what_would_wait_for_two() -> None:
    async def test() -> None:
        engine, gates, requests = await spared()
        assert sum(gate.entered.is_set() for gate in gates) == 2
        requests.append(ask(engine, 4))
        await until(lambda: all(gate.entered.is_set() for gate in gates))
        for gate in gates:
            gate.open()
        await asyncio.gather(*requests)
        await engine.close()

    run(test)


def test_a_thread_that_left_the_rest_to_others_ends_with_them() -> None:
    async def test() -> None:
        engine, gates, requests = await spared()
        stage = engine._infer
        closing = threading.Thread(target=stage.close, daemon=True)  # one that hangs must not
        closing.start()
        await until(lambda: stage._closing and len(stage._asleep) == 1)
        for gate in gates:
            gate.open()
        await asyncio.gather(*requests)
        await until(lambda: not closing.is_alive())

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


def test_what_a_batch_costs_is_learned_from_the_sessions_that_run_batches() -> None:
    async def test() -> None:
        cost = CostModel([(1, 1.0), (64, 1.0)])
        before = cost.line
        engine = scheduler(Gate(), alone=Gate(), decode_workers=0, cost=cost)
        await ask(engine, 1)
        assert cost.line == before
        await ask(engine, 2, 3)
        assert cost.line != before
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


LAST = 99  # a photo whose decoding is held up
# Batches gain nothing, as on a CPU; and so often seen that what a test holds up says little.
EACH_ALONE = [(1, 0.0001), (64, 0.0064)] * 10_000


class Recorded:
    """Photos whose decoding and running are written down in order."""

    def __init__(self) -> None:
        self.gate = Gate(open=False)
        self.events: list[tuple[str, int]] = []
        self.go_on = threading.Event()

    def load(self, value: int) -> Pixels:
        self.events.append(("decode", value))
        assert value != LAST or self.go_on.wait(10)
        return load(value)

    def run(self, images: Pixels) -> Answers:
        answers = self.gate(images)
        self.events += [("run", int(value)) for value in images[:, 0, 0, 0]]
        return answers

    def engine(self, **others: Any) -> Scheduler:
        settings = {"decode_workers": 0, "max_batch": 4, "metrics": Metrics()} | others
        engine = Scheduler([self.run], cost=CostModel(EACH_ALONE), **settings)
        engine._turn_cost = CostModel(EACH_ALONE)
        return engine

    def ask(
        self, engine: Scheduler, *values: int, timeout_s: float = FOREVER_S
    ) -> asyncio.Task[list[Outcome | SuperbinError]]:
        loads = [partial(self.load, value) for value in values]
        return asyncio.create_task(classify(engine, loads, client="a", timeout_s=timeout_s))


def test_of_photos_that_wait_a_thread_decodes_some_and_then_runs_them() -> None:
    async def test() -> None:
        recorded = Recorded()
        engine = recorded.engine()
        first = recorded.ask(engine, 0)
        await entered(recorded.gate)
        later = recorded.ask(engine, 1, 2, 3, 4, 5)
        await waiting(engine, 5)
        recorded.gate.open()
        assert values(await first) + values(await later) == [0, 1, 2, 3, 4, 5]
        turns = [[0], [1, 2, 3, 4], [5]]
        kinds = ("decode", "run")
        assert recorded.events == [(kind, one) for turn in turns for kind in kinds for one in turn]
        assert recorded.gate.batches == [[0], [1], [2], [3], [4], [5]]
        await engine.close()

    run(test)


@pytest.mark.parametrize("seconds", [1.0, 1000 * FOREVER_S])
def test_a_turn_is_short_and_no_longer_than_its_photos_can_wait(seconds: float) -> None:
    async def test() -> None:
        recorded = Recorded()
        engine = recorded.engine()
        engine._turn_cost = CostModel([(1, seconds)])
        first = recorded.ask(engine, 0)
        await entered(recorded.gate)
        later = recorded.ask(engine, 1, 2)
        await waiting(engine, 2)
        recorded.gate.open()
        await asyncio.gather(first, later)
        assert recorded.events == [(kind, i) for i in range(3) for kind in ("decode", "run")]
        await engine.close()

    run(test)


def test_what_nobody_waits_for_any_more_is_left_out_of_a_turn() -> None:
    async def test() -> None:
        recorded = Recorded()
        engine = recorded.engine()
        first = recorded.ask(engine, 0)
        await entered(recorded.gate)
        requests = [recorded.ask(engine, 1, 2), recorded.ask(engine, 3, LAST)]
        await waiting(engine, 4)
        recorded.gate.open()  # and the turn of these four is held up in its last photo
        await until(lambda: ("decode", LAST) in recorded.events)
        requests[1].cancel()
        await asyncio.gather(requests[1], return_exceptions=True)
        recorded.go_on.set()
        assert values(await first) + values(await requests[0]) == [0, 1, 2]
        await engine.close()
        assert recorded.gate.batches == [[0], [1], [2]]

    run(test)


def test_photos_that_cannot_be_checked_fail_and_the_next_are_answered() -> None:
    async def test() -> None:
        recorded = Recorded()
        engine = recorded.engine(doubts=Doubts({"too_dark": 300.0}))
        recorded.gate.open()
        loads = [partial(np.full, (px, px, 3), 1, np.uint8) for px in (128, 160)]
        found = await classify(engine, loads, client="a", timeout_s=FOREVER_S)
        assert values(found) == [InferenceError, InferenceError]
        (answered,) = await recorded.ask(engine, 7)
        assert isinstance(answered, Outcome)
        assert [doubt.reason for doubt in answered.doubts] == ["too_dark"]
        await engine.close()

    run(test)


@pytest.mark.parametrize("decode_workers", [0, 1])
def test_each_photo_brings_its_appearance_where_that_is_watched(decode_workers: int) -> None:
    async def test() -> None:
        for measured in (True, False):
            engine = scheduler(Gate(), decode_workers=decode_workers, watch_appearance=measured)
            watched = iter((True, False, True)).__next__
            found = await ask(engine, 3, 70, 200, watched=watched)
            for value, seen, outcome in zip((3, 70, 200), (1, 0, 1), found, strict=True):
                assert isinstance(outcome, Outcome)
                assert outcome.watched == seen
                expected = measure_appearance(load(value)) if measured and seen else None
                np.testing.assert_array_equal(outcome.appearance, expected)
            await engine.close()

    run(test)


@pytest.mark.parametrize("decode_workers", [0, 1])
def test_only_photos_that_decode_are_among_those_that_drift_is_to_see(decode_workers: int) -> None:
    def broken() -> Pixels:
        raise PhotoBroken("half a photo")

    async def test() -> None:
        engine = scheduler(Gate(), decode_workers=decode_workers)
        watched = iter((True, False)).__next__  # once for each that decodes
        loads = [broken, partial(load, 1), broken, partial(load, 2)]
        found = await classify(engine, loads, client="a", timeout_s=FOREVER_S, watched=watched)
        assert [one.watched for one in found if isinstance(one, Outcome)] == [True, False]
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
