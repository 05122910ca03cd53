"""Threads for stores: what asyncio's own give, and no more wait at the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest

from service.store_threads import THREADS, on_store
from tests.integration.server import ROOT

NAME: ContextVar[str] = ContextVar("name", default="nobody")
PATIENCE_S = 30


def test_a_call_gives_its_result_or_its_error_and_sees_the_callers_context() -> None:
    async def test() -> None:
        NAME.set("somebody")
        assert await on_store(NAME.get) == "somebody"
        assert await on_store(int, "11", base=2) == 3
        with pytest.raises(ValueError, match="invalid literal"):
            await on_store(int, "x")
        assert await on_store(threading.current_thread) is not threading.current_thread()

    asyncio.run(test())


def test_a_store_that_hangs_keeps_nothing_else_waiting() -> None:
    locked = threading.Event()

    async def test() -> None:
        asking = [asyncio.create_task(on_store(locked.wait, PATIENCE_S)) for _ in range(THREADS)]
        called: list[int] = []
        left = asyncio.create_task(on_store(called.append, 1))
        await asyncio.to_thread(lambda: None)  # as where a request is read
        assert not any(task.done() for task in asking)
        left.cancel()
        await asyncio.wait([left])
        locked.set()
        assert all(await asyncio.gather(*asking))
        await on_store(lambda: None)
        assert not called

    asyncio.run(test())


def test_the_end_of_the_process_waits_for_no_store() -> None:
    code = """
import asyncio, threading
from service.store_threads import THREADS, on_store

async def ask():
    await asyncio.wait([asyncio.create_task(on_store(threading.Event().wait)) for _ in range(99)],
                       timeout=0.1)

asyncio.run(ask())
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=PATIENCE_S)
