"""A thread's turn: photos are decoded and checked, then run; one that is bad fails alone."""

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
        engine._turns.turn_cost = CostModel(EACH_ALONE)
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
        engine._turns.turn_cost = CostModel([(1, seconds)])
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
