"""Slices of the kernel's scheduler: asked of the kernel itself what a thread has."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from service.classifier import Answers
from service.preprocess import Pixels
from service.slices import LONGEST_S, NUMBERS, SHORTEST_S, _Attributes, take_slices
from tests.engine import Gate, ask, run, scheduler

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in NUMBERS, reason="no Linux that is known"
)
FIRST_KERNEL = (6, 12)

T = TypeVar("T")


def asked() -> _Attributes:
    """Of the calling thread, by sched_getattr(2), whose number is the next one."""
    found = _Attributes()
    size = ctypes.sizeof(found)
    number = NUMBERS[platform.machine()] + 1
    assert ctypes.CDLL(None).syscall(number, 0, ctypes.byref(found), size, 0) == 0
    return found


def slice_s() -> float:
    nanoseconds: int = asked().runtime
    return nanoseconds / 1e9


def kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


def on_a_thread(test: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(test).result(60)


needs_slices = pytest.mark.skipif(
    kernel() < FIRST_KERNEL, reason="a kernel whose slices are all the same"
)


@needs_slices
@pytest.mark.parametrize(
    ("wanted", "given"), [(0.03, 0.03), (0.0, SHORTEST_S), (9.0, LONGEST_S), (0.005, 0.005)]
)
def test_a_thread_has_the_slices_it_asked_for(wanted: float, given: float) -> None:
    def test() -> tuple[bool, float]:
        return take_slices(wanted), slice_s()

    assert on_a_thread(test) == (True, given)


@needs_slices
def test_threads_that_it_begins_have_usual_ones() -> None:
    def test() -> tuple[float, float]:
        take_slices(0.03)
        return slice_s(), on_a_thread(slice_s)

    own, of_another = on_a_thread(test)
    assert own == 0.03
    assert of_another == slice_s() != 0.03


def test_priority_stays_and_a_policy_of_its_own_is_left_alone() -> None:
    def nice() -> tuple[bool, int, int]:
        os.setpriority(os.PRIO_PROCESS, 0, 5)
        return take_slices(0.03), asked().nice, os.sched_getscheduler(0) & 7

    def batch() -> tuple[bool, int]:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return take_slices(0.03), os.sched_getscheduler(0)

    assert on_a_thread(nice) == (True, 5, os.SCHED_OTHER)
    assert on_a_thread(batch) == (False, os.SCHED_BATCH)


def test_another_system_processor_or_sandbox_keeps_what_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(thread: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    before = slice_s()
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    assert not take_slices(0.03)
    monkeypatch.undo()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not take_slices(0.03)
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_getscheduler", forbidden)
    assert not take_slices(0.03)
    assert slice_s() == before


@needs_slices
@pytest.mark.parametrize(("decode_workers", "long"), [(0, True), (1, False)])
def test_threads_that_decode_and_run_have_long_ones(decode_workers: int, long: bool) -> None:
    """Not those beside a GPU, which decoding must not keep waiting."""

    class Asking(Gate):
        found = 0.0

        def __call__(self, images: Pixels) -> Answers:
            self.found = slice_s()
            return super().__call__(images)

    async def test() -> None:
        gate = Asking()
        engine = scheduler(gate, decode_workers=decode_workers)
        await ask(engine, 1)
        assert (gate.found == 0.03) is long
        await engine.close()

    run(test)
