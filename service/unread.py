"""Answers that their client does not read: they hold places and a model for as long as it lasts."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable

EARNS = 49_152  # bytes read that earn another while, as many as a stream that goes on by itself


class Unread:
    """What waits for the client of one connection, and who ends it where that takes too long.

    The kernel's own buffer counts, too: it takes more only once a third of it is free, which may be
    a megabyte, and a client that reads slowly has read some of it meanwhile.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        give_up: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._timeout_s = timeout_s
        self._give_up = give_up
        self._timer: asyncio.TimerHandle | None = None

    def expect(self) -> None:
        """That the client reads on, in time, if there is anything."""
        if self._timer is None and self._transport.get_write_buffer_size():
            self._wait(self._nbytes())

    def expect_no_more(self) -> None:
        """It did, or has left."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _wait(self, nbytes: int) -> None:
        self._timer = self._loop.call_later(self._timeout_s, self._look, nbytes)

    def _look(self, before: int) -> None:
        nbytes = self._nbytes()
        if before - nbytes >= EARNS:
            self._wait(nbytes)
        else:
            self._timer = None
            self._give_up()

    def _nbytes(self) -> int:
        nbytes = self._transport.get_write_buffer_size()
        try:
            descriptor = self._transport.get_extra_info("socket").fileno()
            packed = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
        except OSError:  # it is about to end
            return nbytes
        return nbytes + int(struct.unpack("i", packed)[0])
