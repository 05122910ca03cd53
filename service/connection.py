"""What uvicorn and the routes need of a connection, beyond ASGI: less work for each answer.

A write wakes the client, and where cores are busy the client then takes the event loop's core.
So an answer's headers wait for its body, and it is written without Python's lock: uvloop's own
write keeps it, and with it the threads that decode and run, until the client has had its turn. And
a route is called where its client leaves, rather than waiting for that.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Scope

LEAVING = "superbin.leaving"  # among the scope's extensions, a `Leaving`
Leave = Callable[[], None]
MOST_HELD = 65_536  # bytes; a longer answer goes on its way, so that a slow client slows it down


@dataclass
class Leaving:
    """Whether a connection's client has left, and whom to call then."""

    left: bool = False
    call: Leave | None = None

    def leave(self) -> None:
        """It has."""
        self.left = True
        if self.call:
            self.call()


class Joining(asyncio.Transport):
    """A transport that holds writes until `flush`, or the loop's next turn, and joins them.

    `at_close` is called where it ends, since what is still to be sent may never be read.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        at_close: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._at_close = at_close
        self._transport = transport
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._loop = loop
        self._held: list[bytes] = []
        self._nbytes = 0
        # As they are: they are asked for several times for each answer.
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]

    def write(self, data: bytes) -> None:  # type: ignore[override]
        """Send it with what comes next."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._nbytes += len(data)
        if self._nbytes > MOST_HELD:
            self.flush()

    def close(self) -> None:
        """End once everything is sent."""
        self.flush()
        self._transport.close()
        self._at_close()

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the transport beneath."""
        return self._transport.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Of the transport beneath."""
        self._transport.set_protocol(protocol)

    def flush(self) -> None:
        """Send what is held."""
        held, self._held, self._nbytes = self._held, [], 0
        if not held or self._transport.is_closing():
            return
        data = b"".join(held)
        if not self._transport.get_write_buffer_size():
            data = self._send(data)
        if data:
            self._transport.write(data)

    def _send(self, data: bytes) -> bytes:
        """Write what there is room for; the rest is for the transport, which also meets errors."""
        try:
            return data[os.write(self._fd, data) :]
        except OSError:
            return data


@contextmanager
def on_leaving(scope: Scope, call: Leave) -> Iterator[None]:
    """Have this called where the client leaves meanwhile; only our own server tells.

    Raises:
        ClientDisconnect: where it has left before.
    """
    leaving: Leaving = scope.get("extensions", {}).get(LEAVING) or Leaving()
    if leaving.left:
        raise ClientDisconnect
    leaving.call = call
    try:
        yield
    finally:
        leaving.call = None
