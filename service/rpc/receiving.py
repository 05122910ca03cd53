"""How many messages of one client are received at a time.

gRPC reads a message whole and tells its size when it is there. So one client may have as many on
their way as the queue could hold of the largest; its others stay where they are, with the client,
and they are counted too: a call costs a client nothing, and there is not room for any number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.admission import QueueFull


@dataclass
class _Slots:
    """Of one client, and how many calls want one or have one."""

    free: asyncio.Semaphore
    calls: int = 0


class Receiving:
    """For one event loop."""

    def __init__(self, most: int, most_waiting: int) -> None:
        self._most = most
        self._most_waiting = most_waiting
        self._clients: dict[str, _Slots] = {}

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Wait until fewer than `most` of this client are received, and be one of them.

        Raises:
            QueueFull: where `most_waiting` of this client's wait already.
        """
        slots = self._clients.setdefault(client, _Slots(asyncio.Semaphore(self._most)))
        if slots.calls >= self._most + self._most_waiting:
            raise QueueFull(
                f"expected at most {self._most + self._most_waiting} calls of one client whose "
                "messages are not there yet, got more",
                retry_after_s=1,
            )
        slots.calls += 1
        try:
            async with slots.free:
                yield
        finally:
            slots.calls -= 1
            if not slots.calls:
                del self._clients[client]
