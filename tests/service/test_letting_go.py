"""What nobody waits for any more is held by nobody: photos that were left, answered or too late."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from functools import partial

import pytest

from service.cost import CostModel
from service.decoding import MEMORY, SMALL_BYTES
from service.photos import DeadlineExceeded
from service.preprocess import Pixels
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


class Upload(bytearray):
    """A photo as it came, which can be watched."""


def load_from(upload: Upload, value: int) -> Pixels:
    return load(value)


def uploaded(value: int) -> tuple[list[Callable[[], Pixels]], Callable[[], bool]]:
    """One request, and what tells whether its photo is gone from memory."""
    upload = Upload(1000)
    seen = weakref.ref(upload)

    def gone() -> bool:
        gc.collect()
        return seen() is None

    return [partial(load_from, upload, value)], gone


@pytest.mark.parametrize("decode_workers", [0, 1])
@pytest.mark.parametrize("leaves", [True, False])
def test_a_photo_that_nobody_waits_for_keeps_no_memory(decode_workers: int, leaves: bool) -> None:
    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate, decode_workers=decode_workers)
        first = ask(engine, 0)
        await entered(gate)
        loads, gone = uploaded(1)
        timeout_s = FOREVER_S if leaves else 0.01
        late = asyncio.create_task(classify(engine, loads, client="b", timeout_s=timeout_s))
        if leaves:
            await until(lambda: engine.backlog.photos == 2)
            late.cancel()
        await asyncio.wait({late})
        del late, loads
        async with asyncio.timeout(5):  # while the session is busy with another
            await until(gone)
        gate.open()
        await first
        await engine.close()

    run(test)


@pytest.mark.parametrize("decode_workers", [0, 1])
def test_a_photo_that_nobody_waits_for_leaves_its_thread_while_there_is_no_memory(
    decode_workers: int,
) -> None:
    nbytes = SMALL_BYTES + 1

    def large() -> Pixels:
        with MEMORY.taken(nbytes, nbytes):
            return load(1)

    async def test() -> None:
        engine = scheduler(Gate(), decode_workers=decode_workers)
        with MEMORY.taken(nbytes, nbytes):
            late = classify(engine, [large], client="a", timeout_s=0.01)
            assert values(await late) == [DeadlineExceeded]
            async with asyncio.timeout(5):
                assert values(await ask(engine, 2)) == [2]
        assert values(await classify(engine, [large], client="a", timeout_s=FOREVER_S)) == [1]
        await engine.close()

    run(test)


@pytest.mark.parametrize("decode_workers", [0, 1])
def test_a_thread_that_is_idle_keeps_no_photo(decode_workers: int) -> None:
    async def test() -> None:
        engine = scheduler(Gate(), decode_workers=decode_workers)
        loads, gone = uploaded(1)
        await asyncio.create_task(classify(engine, loads, client="a", timeout_s=FOREVER_S))
        del loads
        await until(gone)
        await engine.close()

    run(test)


def test_a_photo_is_read_once_and_then_its_bytes_are_free() -> None:
    """As beside a GPU, where what is decoded waits for it."""

    async def test() -> None:
        gate = Gate(open=False)
        engine = scheduler(gate, decode_workers=1)
        first = ask(engine, 0)
        await entered(gate)
        loads, gone = uploaded(1)
        second = asyncio.create_task(classify(engine, loads, client="a", timeout_s=FOREVER_S))
        await until(lambda: len(engine._infer._queue) == 1)
        loads.clear()
        await until(gone)
        gate.open()
        assert values(await second) == [1]
        await first
        await engine.close()

    run(test)


@pytest.mark.parametrize(("most", "decode_workers"), [(2, 0), (5, 3)])
def test_threads_end_where_another_cannot_be_started(
    monkeypatch: pytest.MonkeyPatch, most: int, decode_workers: int
) -> None:
    """As by a container's limit."""

    async def test() -> None:
        before = set(threading.enumerate())
        start, started = threading.Thread.start, []

        def limited(thread: threading.Thread) -> None:
            if len(started) == most:
                raise RuntimeError("can't start new thread")
            started.append(thread)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)
        with pytest.raises(RuntimeError):
            scheduler(*(Gate() for _ in range(4)), decode_workers=decode_workers)
        monkeypatch.undo()
        assert len(started) == most
        assert set(threading.enumerate()) <= before

    run(test)


def test_those_who_wait_for_more_photos_share_them_once_they_are_due() -> None:
    async def test() -> None:
        gates = [Gate(open=False), Gate(open=False)]
        engine = scheduler(*gates, decode_workers=0, max_batch=8, max_delay_s=1.0)
        await until(lambda: len(engine._infer._asleep) == 2)
        requests = []
        for value in range(4):  # fewer than are worth a batch; each wakes one, and the same
            requests.append(ask(engine, value))
            await waiting(engine, value + 1)
            await until(lambda: len(engine._infer._asleep) == 2)
        async with asyncio.timeout(5):  # before any gate gives up
            await until(lambda: all(gate.entered.is_set() for gate in gates))
        for gate in gates:
            gate.open()
        assert sorted(v for found in await asyncio.gather(*requests) for v in values(found)) == [
            *range(4)
        ]
        await engine.close()

    run(test)


@pytest.mark.parametrize("others", [0, 1])
def test_nobody_waits_for_more_photos_until_it_is_too_late_for_one(others: int) -> None:
    async def test() -> None:
        cost = CostModel([(1, 0.001), (64, 0.001)])
        engine = scheduler(Gate(), max_batch=8, max_delay_s=FOREVER_S / 4, cost=cost)
        before = [ask(engine, 9, client=f"patient {n}") for n in range(others)]
        await waiting(engine, others)
        found = await ask(engine, 1, client="in a hurry", timeout_s=4.0)
        assert values(found) == [1]
        for request in before:
            request.cancel()
        await engine.close()

    run(test)


@pytest.mark.parametrize("decode_workers", [0, 1])
def test_a_model_that_is_left_is_let_go_of_without_the_collector(decode_workers: int) -> None:
    """Which comes by the later the less garbage there is, while a model takes memory."""

    async def test() -> None:
        alone = Gate()
        engine = scheduler(Gate(), alone=alone, decode_workers=decode_workers)
        await ask(engine, 0)
        held = [weakref.ref(engine), weakref.ref(alone)]
        await engine.close()
        del engine, alone
        assert [one() for one in held] == [None, None]

    gc.disable()
    try:
        run(test)
    finally:
        gc.enable()
