"""Threads over one queue: who is woken, and that none is missed."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue

import pytest

from service.fairness import FairQueue
from service.stages import Stage


@dataclass
class Item:
    """What a fair queue asks of what waits in it."""

    number: int
    client: str = "somebody"
    bulk: bool = False
    deadline: float = float("inf")
    since: float = 0.0

    @property
    def unwanted(self) -> bool:
        return False


def one(queue: FairQueue[Item], idle: int) -> tuple[list[Item], float]:
    return [queue.pop(time.monotonic())], 0.0


def asleep(stage: Stage[Item], number: int) -> None:
    while len(stage._asleep) < number:
        time.sleep(0.0005)


def test_the_thread_that_fell_asleep_last_is_woken_first() -> None:
    names: SimpleQueue[str] = SimpleQueue()

    def work(items: list[Item]) -> None:
        names.put(threading.current_thread().name)

    stage: Stage[Item] = Stage("work", [work] * 3, one)
    woken = []
    for number in range(20):
        asleep(stage, 3)
        stage.put([Item(number)])
        woken.append(names.get(timeout=60))
    stage.close()
    assert len(set(woken)) == 1


def test_as_many_threads_are_woken_as_there_is_work_for() -> None:
    together = threading.Barrier(3, timeout=60)
    stage: Stage[Item] = Stage("work", [lambda items: together.wait() and None] * 3, one)
    for _ in range(10):
        asleep(stage, 3)
        stage.put([Item(number) for number in range(3)])
    stage.close()
    assert not together.broken


def test_nothing_is_left_while_threads_come_and_go_and_others_wait_for_more() -> None:
    """Sleep that ends by itself and by work at the same moment, many times."""
    done: SimpleQueue[int] = SimpleQueue()

    def choose(queue: FairQueue[Item], idle: int) -> tuple[list[Item], float]:
        if len(queue) < 2 and queue.peek(time.monotonic()).number % 2:
            return [], 1e-6
        return one(queue, idle)

    stage: Stage[Item] = Stage(
        "work", [lambda items: [done.put(item.number) for item in items] and None] * 3, choose
    )
    for number in range(0, 4000, 2):
        stage.put([Item(number + 1)])
        stage.put([Item(number)])
    assert sorted(done.get(timeout=60) for _ in range(4000)) == list(range(4000))
    stage.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_stage_ends_where_nobody_wants_what_waited_last(threads: int) -> None:
    busy, go_on = threading.Semaphore(0), threading.Event()

    def choose(queue: FairQueue[Item], idle: int) -> tuple[list[Item], float]:
        taken = [queue.pop(time.monotonic())]
        return [item for item in taken if item.number < threads], 0.0

    def work(items: list[Item]) -> None:
        busy.release()
        go_on.wait(60)

    stage: Stage[Item] = Stage("work", [work] * threads, choose)
    stage.put([Item(number) for number in range(threads)])
    for _ in range(threads):
        assert busy.acquire(timeout=60)
    stage.put([Item(threads)])  # whose client leaves
    closing = threading.Thread(target=stage.close, daemon=True)  # one that hangs must not
    closing.start()
    while not stage._closing:
        time.sleep(0.0005)
    go_on.set()
    closing.join(10)
    assert not closing.is_alive()


def test_a_stage_tells_for_how_long_it_has_been_at_work() -> None:
    busy, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def work(items: list[Item]) -> None:
        busy.release()
        assert go_on.acquire(timeout=60)

    stage: Stage[Item] = Stage("work", [work] * 2, one)
    assert stage.working_s <= 0.0
    before = time.monotonic()
    stage.put([Item(0)])
    assert busy.acquire(timeout=60)
    time.sleep(0.01)
    between = time.monotonic()
    stage.put([Item(1)])
    assert busy.acquire(timeout=60)
    assert time.monotonic() - between < stage.working_s <= time.monotonic() - before
    go_on.release(2)
    stage.close()
    assert stage.working_s <= 0.0
