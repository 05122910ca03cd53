"""What is written for one answer leaves together, and routes are told of clients that leave."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from starlette.requests import ClientDisconnect

from service.connection import LEAVING, Joining, Leaving, on_leaving

LOOPS = [uvloop.new_event_loop, asyncio.new_event_loop]
Act = Callable[[Joining, socket.socket], Awaitable[None]]


@pytest.fixture(params=LOOPS)
def connected(request: pytest.FixtureRequest) -> Callable[[Act], bytes]:
    """Does something with one end of a connection, and gives what the other end got in the end."""

    def run(act: Act) -> bytes:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)

        async def connect() -> bytes:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
            await act(Joining(transport, loop), theirs)
            got = b""
            while some := await loop.sock_recv(theirs, 1000):
                got += some
            return got

        with asyncio.Runner(loop_factory=request.param) as runner, theirs:
            return runner.run(connect())

    return run


def nothing_came(theirs: socket.socket) -> bool:
    try:
        return not theirs.recv(1000)
    except BlockingIOError:
        return True


def test_writes_of_one_turn_leave_together_at_its_end(
    connected: Callable[[Act], bytes],
) -> None:
    seen: list[bytes] = []

    async def act(ours: Joining, theirs: socket.socket) -> None:
        ours.write(b"headers, ")
        assert nothing_came(theirs)
        ours.write(b"body")
        assert nothing_came(theirs)
        seen.append(await asyncio.get_running_loop().sock_recv(theirs, 1000))
        ours.write(b", more")
        ours.flush()
        seen.append(theirs.recv(1000))  # at once
        ours.close()

    assert connected(act) == b""
    assert seen == [b"headers, body", b", more"]


def test_what_was_written_before_the_end_is_sent(connected: Callable[[Act], bytes]) -> None:
    async def act(ours: Joining, theirs: socket.socket) -> None:
        ours.write(b"the end")
        ours.close()
        assert ours.is_closing()

    assert connected(act) == b"the end"


def test_what_is_aborted_sends_nothing_more(connected: Callable[[Act], bytes]) -> None:
    async def act(ours: Joining, theirs: socket.socket) -> None:
        ours.write(b"never")
        ours.abort()

    assert connected(act) == b""


def test_a_large_answer_to_a_slow_client_arrives_whole(connected: Callable[[Act], bytes]) -> None:
    pieces = [bytes([i]) * 100_000 for i in range(30)]

    async def act(ours: Joining, theirs: socket.socket) -> None:
        for piece in pieces:
            ours.write(piece)
        ours.close()

    assert connected(act) == b"".join(pieces)


def test_an_answer_without_end_waits_for_its_client(connected: Callable[[Act], bytes]) -> None:
    paused = asyncio.Event()

    class Told(asyncio.Protocol):
        def pause_writing(self) -> None:
            paused.set()

    async def act(ours: Joining, theirs: socket.socket) -> None:
        ours.set_protocol(Told())
        for _ in range(1000):  # within one turn of the loop
            ours.write(bytes(10_000))
            if paused.is_set():
                break
        assert paused.is_set()
        ours.abort()

    assert len(connected(act)) < 5_000_000


def test_other_threads_work_while_an_answer_is_written() -> None:
    ours, theirs = socket.socketpair()  # both wait until there is room
    got: list[bytes] = []
    left: list[bytes] = []

    class Waiting(asyncio.Transport):
        def is_closing(self) -> bool:
            return False

        def get_write_buffer_size(self) -> int:
            return 0

        def write(self, data: bytes) -> None:  # type: ignore[override]
            left.append(data)  # by a signal

    def read() -> None:
        while some := theirs.recv(10_000):
            got.append(some)

    with asyncio.Runner() as runner, ours, theirs:
        joining = Joining(Waiting({"socket": ours}), runner.get_loop())
        reader = threading.Thread(target=read)
        reader.start()
        joining.write(bytes(3_000_000))  # far more than there is room for
        ours.shutdown(socket.SHUT_WR)
        reader.join()
    assert got  # and the reader had its turns
    assert len(b"".join(got + left)) == 3_000_000


def test_a_client_that_is_gone_when_its_answer_comes_is_noticed(
    connected: Callable[[Act], bytes],
) -> None:
    lost = asyncio.Event()

    class Told(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            lost.set()

    async def act(ours: Joining, theirs: socket.socket) -> None:
        ours.set_protocol(Told())
        theirs.shutdown(socket.SHUT_RD)  # it takes nothing any more
        ours.write(b"nobody reads it")
        ours.flush()
        await asyncio.wait_for(lost.wait(), 10)
        assert ours.is_closing()

    assert connected(act) == b""


def test_whoever_listens_for_leaving_does_so_for_as_long_as_it_likes() -> None:
    leaving, told = Leaving(), []
    scope = {"extensions": {LEAVING: leaving}}
    with on_leaving(scope, lambda: told.append("left")):
        assert leaving.call is not None
    assert leaving.call is None
    with on_leaving({}, lambda: None):  # a server that does not tell
        pass
    with on_leaving(scope, lambda: told.append("left")):
        leaving.leave()
    assert told == ["left"]


def test_a_client_that_left_before_anybody_listened_is_noticed() -> None:
    leaving = Leaving()
    leaving.leave()
    scope = {"extensions": {LEAVING: leaving}}
    with pytest.raises(ClientDisconnect), on_leaving(scope, lambda: None):
        raise AssertionError("expected not to get here")
