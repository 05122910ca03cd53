"""Threads for what waits for a store, apart from those that read requests and load models.

A database that is locked or away holds each of them for seconds. Like the threads that write they
end with the process: a signal to stop waits for no store that hangs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from functools import cache, partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8  # for all stores together


async def on_store(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it on a thread, as `asyncio.to_thread` does, in the caller's context.

    Whoever is cancelled waits no longer; what has not begun by then is not called.
    """
    future: Future[T] = Future()
    call = partial(copy_context().run, partial(function, *args, **kwargs))
    _waiting().put((future, call))
    return await asyncio.wrap_future(future)


@cache
def _waiting() -> SimpleQueue[tuple[Future[Any], Callable[[], Any]]]:
    """What waits for a thread; the first one who asks starts them.

    Not an executor of `concurrent.futures`, whose threads the interpreter waits for at its end.
    """
    waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def work() -> None:
        while True:
            _do(*waiting.get())

    for number in range(THREADS):
        threading.Thread(target=work, name=f"store-{number}", daemon=True).start()
    return waiting


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    """Call it and tell what came of it; keeps nothing of it afterwards."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:  # for the caller, whatever it is
        future.set_exception(error)
        del future, call  # which the error's traceback would hold in a circle
