"""When photos run: in turn, in time, in batches that are worth it, and only if they are wanted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from service.cost import CostModel
from service.errors import SuperbinError
from service.photos import DeadlineExceeded, Outcome, results_of
from service.preprocess import Pixels
from service.turns import TURN_S
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


@pytest.mark.parametrize("decode_workers", [0, 1])
def test_a_delay_is_waited_for_a_fuller_batch_and_no_longer_than_until_it_is_full(
    decode_workers: int,
) -> None:
    async def test() -> None:
        gate = Gate()
        engine = scheduler(gate, max_batch=3, max_delay_s=FOREVER_S, decode_workers=decode_workers)
        requests = [ask(engine, value) for value in range(3)]
        await asyncio.gather(*requests)
        assert gate.batches == [[0, 1, 2]]
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


def test_photos_that_are_slow_to_decode_do_not_keep_a_whole_turn_waiting() -> None:
    """What a thread has taken and has no time for goes back, and is the next."""

    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate, max_batch=8, decode_workers=0)
        first = ask(engine, 0, client="first")
        await entered(gate)
        begun: list[int] = []

        def loads(*values: int, seconds: float = 0.0) -> list[Callable[[], Pixels]]:
            def begin(value: int) -> Pixels:
                begun.append(value)
                time.sleep(seconds)
                return load(value)

            return [partial(begin, value) for value in values]

        with (
            engine.submitted(
                loads(1, 2, 3, seconds=2 * TURN_S), client="slow", timeout_s=FOREVER_S
            ) as slow,
            engine.submitted(loads(4), client="quick", timeout_s=FOREVER_S) as quick,
        ):
            gate.open()
            assert values(await results_of([*slow, *quick])) == [1, 2, 3, 4]
        await first
        assert begun == [1, 4, 2, 3]
        assert gate.batches == [[0], [1], [4, 2], [3]]
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
def test_what_a_client_no_longer_waits_for_costs_it_no_turn(decode_workers: int) -> None:
    begun: list[int] = []
    held, go_on = 0, threading.Event()

    def recorded(value: int) -> Pixels:
        begun.append(value)
        assert value != held or go_on.wait(10)
        return load(value)

    async def test() -> None:
        engine = scheduler(Gate(), decode_workers=decode_workers)

        def asked(*photos: int, client: str) -> asyncio.Task[list[Outcome | SuperbinError]]:
            loads = [partial(recorded, photo) for photo in photos]
            return asyncio.create_task(classify(engine, loads, client=client, timeout_s=FOREVER_S))

        first = asked(held, client="c")
        await until(lambda: begun == [held])
        gone, stays, other = (
            asked(1, 2, 3, client="a"),
            asked(4, client="a"),
            asked(*range(10, 16), client="b"),
        )
        await until(lambda: engine.backlog.photos == 11)
        gone.cancel()
        await asyncio.wait([gone])
        go_on.set()
        await asyncio.gather(first, stays, other)
        assert begun == [held, 4, *range(10, 16)]
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
