"""Connections are let in several at a turn of the loop, however long a turn takes."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest
import uvloop

from service.server import ACCEPTS, several_of, take_port

CLIENTS = 64


@pytest.mark.parametrize("factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_waiting_connections_are_let_in_several_at_a_turn(factory: object) -> None:
    listener = take_port("127.0.0.1", 0)
    listener.listen(CLIENTS)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]

    async def turns() -> int:
        loop = asyncio.get_running_loop()
        accepted: list[asyncio.Transport] = []

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.append(cast(asyncio.Transport, transport))  # uvloop's is none by type

        servers = [await loop.create_server(Accepted, sock=one) for one in several_of(listener)]
        taken = 0
        while len(accepted) < CLIENTS:
            taken += 1
            await asyncio.sleep(0)  # a turn
        for one in (*accepted, *servers):
            one.close()
        for server in servers:
            await server.wait_closed()
        return taken

    try:
        with asyncio.Runner(loop_factory=factory) as runner:  # type: ignore[arg-type]
            assert runner.run(turns()) <= CLIENTS / ACCEPTS + 4
    finally:
        for client in clients:
            client.close()
        listener.close()
