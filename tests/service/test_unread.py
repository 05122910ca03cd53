"""A client that does not read its answer is given up, and one that reads it slowly is not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from service.protocol import Guard, Protocol
from service.unread import EARNS, Unread
from tests.integration.server import DEADLINE_S

LOOPS = [uvloop.new_event_loop, asyncio.new_event_loop]
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Waiting:
    """Bytes that wait to be sent, and a clock that the test turns."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.nbytes = 0
        self.due: list[Callable[[], None]] = []
        self.given_up = 0
        loop: Any = SimpleNamespace(call_later=self._call_later)
        transport: Any = SimpleNamespace(
            get_write_buffer_size=lambda: self.nbytes, get_extra_info=lambda _: connection
        )
        self.unread = Unread(transport, loop, 30.0, self._give_up)

    def _call_later(self, delay_s: float, call: Callable[[int], None], before: int) -> Any:
        assert delay_s == 30.0
        self.due.append(lambda: call(before))
        return SimpleNamespace(cancel=self.due.clear)

    def _give_up(self) -> None:
        self.given_up += 1

    def turn(self) -> None:
        """The time is over."""
        due = self.due.pop()
        assert not self.due
        due()


@pytest.fixture
def waiting() -> Iterator[Any]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
        with near, far:
            yield SimpleNamespace(at=Waiting(near), far=far)


def test_who_reads_enough_gets_as_long_again(waiting: Any) -> None:
    at = waiting.at
    at.nbytes = 10 * EARNS
    at.unread.expect()
    at.unread.expect()  # it is expected already
    for _ in range(5):
        at.nbytes -= EARNS
        at.turn()
        assert not at.given_up
    at.nbytes -= EARNS - 1
    at.turn()
    assert at.given_up == 1
    assert not at.due


def test_who_has_read_all_is_waited_for_no_longer(waiting: Any) -> None:
    waiting.at.unread.expect()
    assert not waiting.at.due  # there was nothing to read
    waiting.at.nbytes = 1
    waiting.at.unread.expect()
    waiting.at.unread.expect_no_more()
    assert not waiting.at.due


def test_what_the_kernel_has_sent_meanwhile_counts(waiting: Any) -> None:
    at = waiting.at
    at.connection.setblocking(False)
    at.nbytes = EARNS
    sent = 0
    try:
        while True:
            sent += at.connection.send(bytes(65_536))
    except BlockingIOError:
        pass
    at.unread.expect()
    waiting.far.settimeout(DEADLINE_S)
    while sent > 0:
        sent -= len(waiting.far.recv(65_536))
    at.turn()
    assert not at.given_up
    at.turn()
    assert at.given_up == 1


class Client:
    """One that asks, over buffers of the kernel that are small."""

    def __init__(self, app: Any, write_timeout_s: float) -> None:
        self.connection = socket.socket()
        self.refused: list[str] = []
        self._guard = Guard(60.0, 65_536, 10, write_timeout_s, self.refused.append)
        self._config = uvicorn.Config(app, lifespan="off", log_config=None)
        self._state = ServerState()
        self._served: list[Any] = []

    def serve(self) -> Protocol:
        """What the server does with the connection."""
        one = self._guard.protocol(config=self._config, server_state=self._state, app_state={})
        self._served.append(one)
        return one

    def waits(self) -> bool:
        """Whether something does that the kernel does not take."""
        return bool(self._served[0]._unread._transport.get_write_buffer_size())

    def abort(self) -> None:
        """End it, whatever the server thinks of it."""
        for one in self._state.connections:
            one.transport.abort()

    def _begun(self) -> bool:
        return any(one.transport for one in self._served)

    async def is_gone(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not self._begun() or self._state.connections:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def asking(app: Any, write_timeout_s: float) -> AsyncIterator[Client]:
    client = Client(app, write_timeout_s)
    loop = asyncio.get_running_loop()
    with socket.socket() as listener, client.connection as connection:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # as those it accepts
        listener.bind(("127.0.0.1", 0))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        server = await loop.create_server(client.serve, sock=listener)
        await loop.sock_connect(connection, listener.getsockname())
        await loop.sock_sendall(connection, GET)
        try:
            yield client
        finally:
            server.close()
            client.abort()
            await asyncio.sleep(0)


async def begin(send: Any, nbytes: int) -> None:
    headers = [(b"content-length", str(nbytes).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


@pytest.mark.parametrize("new_loop", LOOPS)
def test_an_answer_that_nobody_reads_ends(new_loop: Any) -> None:
    """What the application holds meanwhile is free then."""
    over = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await begin(send, 10_000_000)
        for _ in range(100):
            body = {"type": "http.response.body", "body": bytes(100_000), "more_body": True}
            await send(body)
        over.set()

    async def ask() -> None:
        async with asking(app, 0.1) as client:
            await client.is_gone()
            await asyncio.wait_for(over.wait(), DEADLINE_S)
            assert client.refused == ["slow_reader"]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_the_rest_of_an_answer_that_nobody_reads_keeps_no_connection(new_loop: Any) -> None:
    """It is so small that the application never has to wait, and the connection is to close."""
    clients: list[Client] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not clients[0].waits():
            await send({"type": "http.response.body", "body": bytes(5000), "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"the end"})

    async def ask() -> None:
        async with asking(app, 0.1) as client:
            clients.append(client)
            await client.is_gone()
            assert client.refused == ["slow_reader"]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask())


@pytest.mark.parametrize("new_loop", LOOPS)
def test_an_answer_that_is_read_arrives_whole(new_loop: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await begin(send, 10_000_000)
        await send({"type": "http.response.body", "body": bytes(10_000_000)})

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        async with asking(app, DEADLINE_S) as client:
            got = 0
            while more := len(await loop.sock_recv(client.connection, 1_000_000)):
                got += more
            assert got > 10_000_000
            await client.is_gone()
            assert not client.refused

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask())
