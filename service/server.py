"""The process that serves: uvicorn with our way to start, to say so, and to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog
import uvicorn
from prometheus_client import disable_created_metrics

from service.app import create_app
from service.errors import SuperbinError
from service.last_resort import LastResort, leave
from service.protocol import Guard
from service.settings import Settings

log = structlog.get_logger()

TICK_S = 0.1  # between looks at what a signal asked for
LAST_S = 15.0  # after the grace period: the stores' last writes may take 10
SOON_S = 3.0  # that the end may take where Ctrl-C asked twice, or nothing is left to lose
ACCEPTS = 8  # connections that are let in at a turn of the loop
BY_OPTION = "--host and --port (make serve HOST=... PORT=...)"
BY_SETTING = "SUPERBIN_GRPC_PORT"
GC_THRESHOLDS = 20_000, 20, 20  # a request makes a few hundred objects and no cycles


class ServeError(SuperbinError):
    """The address cannot be listened on."""


class Server(uvicorn.Server):
    """On SIGTERM readiness fails first, the port closes later, and the exit status is 0.

    So it is on SIGHUP, which a terminal sends that is closed, unless `nohup` has it ignored.
    Ctrl-C comes of a person, and not of what asks a load balancer to look: the port closes at once.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        settings: Settings,
        guard: Guard,
        state: object,
        announce: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._guard = guard
        self._settings = settings
        self._state = state
        self._announce = announce
        self._close_at = float("inf")
        self._last_resort = LastResort(self._has_let_go)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so; a signal while the models load ends the process at once."""
        self._last_resort.start()
        starting = asyncio.create_task(super().startup(sockets))
        while not (await asyncio.wait({starting}, timeout=TICK_S))[0]:
            if self._close_at < float("inf") and not hasattr(self._state, "serving"):
                leave(0, lambda: log.info("stopped while starting"))  # a load is not to be cut
        await starting
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what runs finish, over gRPC at the same time: the application waits for both."""
        calls = getattr(self._state, "grpc", None)
        finishing = asyncio.create_task(self._finish(calls)) if calls else None
        await super().shutdown(sockets)
        if finishing and not self.force_exit:
            await finishing
        self._last_resort.within(SOON_S)  # a load is all that may last

    async def _finish(self, calls: Any) -> None:
        """Take no more calls, and end those that there are when their time is over, or at once."""
        stopping = asyncio.create_task(calls.stop(self._settings.grace_period_s))
        while not (await asyncio.wait({stopping}, timeout=TICK_S))[0]:
            if self.force_exit:
                await calls.stop(None)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Those of uvicorn, and SIGHUP."""
        before = signal.getsignal(signal.SIGHUP)
        with super().capture_signals():
            if before == signal.SIG_IGN:
                yield
                return
            signal.signal(signal.SIGHUP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(signal.SIGHUP, before)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; uvicorn's own would end the process by the signal, with status 143.

        Nothing but that: what was interrupted may hold a lock, that of the metrics for example.
        """
        last_s = self._settings.grace_period_s + LAST_S
        if self._close_at < float("inf"):  # asked twice
            self.should_exit = True
            self.force_exit = self.force_exit or sig == signal.SIGINT
            self._last_resort.within(SOON_S if self.force_exit else last_s)
            # What is cut off then would be told as an error, with a traceback.
            logging.getLogger("uvicorn.error").disabled = self.force_exit
            return
        delay_s = drain_delay_s(self._settings, sig)
        self._close_at = time.monotonic() + delay_s
        self._last_resort.within(delay_s + last_s)

    def _has_let_go(self) -> bool:
        serving = getattr(self._state, "serving", None)
        return serving is not None and serving.let_go

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: fail readiness once asked to stop, close the port after the delay."""
        serving = getattr(self._state, "serving", None)
        if serving and self._close_at < float("inf"):
            serving.set_ready(False)
            self._guard.stopping = True
        if time.monotonic() >= self._close_at:
            self.should_exit = True
        return await super().on_tick(counter)


def drain_delay_s(settings: Settings, sig: int) -> float:
    """How long the port stays open after the first signal to stop."""
    return 0.0 if sig == signal.SIGINT else settings.drain_delay_s


def url_of(listener: socket.socket) -> str:
    """Where a person finds what listens there."""
    host, port = listener.getsockname()[:2]
    everywhere = host in {"0.0.0.0", "::"}
    shown = "localhost" if everywhere else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def hold_port(host: str, port: int) -> socket.socket:
    """A port that gRPC of each worker will listen on, until then and meanwhile kept from others.

    Raises:
        ServeError: as `take_port`.
    """
    taken = take_port(host, port, BY_SETTING)  # which shares with nobody, so that it is free
    with taken:
        address = taken.getsockname()
    held = socket.socket(taken.family, taken.type, taken.proto)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind(address)
    except OSError as error:
        held.close()
        raise _no_port(host, port, error, BY_SETTING) from error
    return held


def take_port(host: str, port: int, hint: str = BY_OPTION) -> socket.socket:
    """A socket bound to an address, not yet listening: clients are refused until it is.

    Raises:
        ServeError: where the address is taken, not ours, or not to be found.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, proto)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        raise _no_port(host, port, error, hint) from error
    return taken


def several_of(listener: socket.socket) -> list[socket.socket]:
    """The same socket `ACCEPTS` times, to be listened on with each.

    libuv accepts one connection a turn for each, and where hundreds of clients keep its turns long,
    a new one would wait for as many turns as there are others before it, `/livez` too. On a quiet
    server another one costs 3 microseconds for each connection.
    """
    listener.setblocking(False)  # a copy sets that of all, in other processes too
    return [listener, *(listener.dup() for _ in range(ACCEPTS - 1))]


def _no_port(host: str, port: int, error: OSError, hint: str = BY_OPTION) -> ServeError:
    return ServeError(
        f"cannot listen on {host}, port {port}: {error.strerror or error}; "
        f"name another with {hint}; port 0 takes a free one"
    )


def run(settings: Settings, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Serve in this process until a signal comes.

    Args:
        listener: from `take_port`.
        announce: called once requests are answered.

    Raises:
        ServeError: where another has begun to listen there.
        SuperbinError: where the model cannot run as asked.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call] # series that nothing reads
    app = create_app(settings)
    guard = Guard(
        settings.header_timeout_s,
        settings.max_header_bytes,
        settings.max_connections,
        settings.write_timeout_s,
        app.state.metrics.rejection,
    )
    config = uvicorn.Config(
        app,
        http=guard.protocol,  # type: ignore[arg-type] # any that makes one will do
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        ws="none",
        proxy_headers=settings.trusted_proxies is not None,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.grace_period_s,
    )
    server = Server(config, settings, guard, app.state, announce)
    # What was made so far lives as long as the process: the collector need not go through it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    # A start that failed for a reason of ours is told in one line, by the caller.
    uvicorn_log = logging.getLogger("uvicorn.error")
    uvicorn_log.addFilter(lambda _: getattr(app.state, "start_error", None) is None)
    try:
        server.run(several_of(listener))
    except OSError as error:  # another that was starting at the same time listened first
        raise _no_port(settings.host, settings.port, error) from error
    except SystemExit:
        failure = getattr(app.state, "start_error", None)
        if isinstance(failure, SuperbinError):
            raise failure from None
        raise
