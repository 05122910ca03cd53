"""Photos run together, get their own answers, and fail alone."""

from __future__ import annotations

import asyncio

import pytest

from service.cost import CostModel
from service.results import InferenceError
from tests.engine import (
    POISON,
    Gate,
    ask,
    entered,
    run,
    scheduler,
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
