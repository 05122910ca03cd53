"""`superbin serve`: one process that serves, or several of them over one port.

Several workers share the listening socket, so that what the kernel holds for one that ends is
answered by another. They write their metrics to files of one folder, from which any of them
answers a scrape for all. The parent serves nothing: it starts them, replaces those that end, and
passes on the signal to stop.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

import structlog

from service import logs
from service.drift_reports import forget_report
from service.errors import SuperbinError
from service.last_resort import CUT_SHORT
from service.locks import used
from service.server import (
    LAST_S,
    SOON_S,
    ServeError,
    drain_delay_s,
    hold_port,
    run,
    take_port,
    url_of,
)
from service.settings import Settings
from service.worker_metrics import FOLDER, forget_worker, metrics_folder

log = structlog.get_logger()

START_FAILED = 3
LONGEST_PAUSE_S = 30.0  # between attempts to replace a worker
TICK_S = 0.1
LATER_S = 5.0  # than a worker ends itself at the latest, it is killed
FILES = 256  # that are no connections: models, sockets, metrics

_spawn = multiprocessing.get_context("spawn")  # threads of the model would not survive a fork


def serve(settings: Settings) -> None:
    """Serve until a signal comes.

    Raises:
        ServeError: where the port is taken, or no worker could start.
        SuperbinError: where the model cannot run as asked.
    """
    logs.configure(settings.log_level)
    listener = take_port(settings.host, settings.port)  # before the model is loaded in vain
    with ExitStack() as held:
        if settings.grpc_port is not None:
            port = held.enter_context(hold_port(settings.host, settings.grpc_port)).getsockname()[1]
            settings = settings.model_copy(update={"grpc_port": port})
        connections = settings.max_connections * (1 if settings.grpc_port is None else 2)
        _allow_files(connections + FILES)
        if settings.workers == 1 and FOLDER not in os.environ:  # it may hold files of others
            run(settings, listener, lambda: _announce(listener, settings))
            return
        Workers(settings, listener, held.enter_context(metrics_folder())).run()


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files, which each connection counts against."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("too few open files are allowed", expected=wanted, allowed=allowed)


def _announce(listener: socket.socket, settings: Settings) -> None:
    also = "" if settings.grpc_port is None else f" and for gRPC at port {settings.grpc_port}"
    print(f"Superbin is ready at {url_of(listener)}{also}", file=sys.stderr, flush=True)


@dataclass
class Worker:
    """A process that serves, and where it tells that it is ready, or why it cannot be."""

    process: SpawnProcess
    news: Connection
    ready: bool = False


class Workers:
    """The parent's work."""

    def __init__(self, settings: Settings, listener: socket.socket, folder: Path) -> None:
        self._settings = settings
        self._listener = listener
        self._folder = folder
        self._workers: list[Worker] = []
        self._announced = False
        self._stopping = False
        self._kill_at = float("inf")
        self._cut_short = False
        self._signals: list[signal.Signals] = []  # not passed on yet
        self._failures = 0  # since a worker was last ready
        self._start_at = 0.0

    def run(self) -> None:
        """Keep so many workers running until a signal comes.

        Raises:
            ServeError: where one cannot start before all were ready once.
            SystemExit: where one had to be ended with work in hand.
        """
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if sig != signal.SIGHUP or signal.getsignal(sig) != signal.SIG_IGN:  # as by nohup
                signal.signal(sig, self._signalled)
        try:
            while (self._workers or not self._stopping) and time.monotonic() < self._kill_at:
                self._pass_on()
                self._replace()
                ends = [w.process.sentinel for w in self._workers]
                wait([*ends, *(w.news for w in self._workers if not w.ready)], TICK_S)
                self._look()
        finally:
            for worker in self._workers:
                if self._stopping:
                    self._cut_short = True
                    log.error("worker killed: it does not end", pid=worker.process.pid)
                worker.process.kill()
                worker.process.join()
        if self._cut_short:
            sys.exit(CUT_SHORT)

    def _signalled(self, sig: int, frame: FrameType | None) -> None:
        told = signal.SIGTERM if sig == signal.SIGHUP else signal.Signals(sig)
        self._signals.append(told)

    def _pass_on(self) -> None:
        """Signals go to the workers from here, and from nowhere else."""
        while self._signals:
            sig = self._signals.pop(0)
            delay_s = drain_delay_s(self._settings, sig)
            last_s = delay_s + self._settings.grace_period_s + LAST_S
            if self._stopping and sig == signal.SIGINT:
                last_s = SOON_S
            self._kill_at = min(self._kill_at, time.monotonic() + last_s + LATER_S)
            self._stopping = True
            self._listener.close()  # or the kernel would go on to accept what nobody answers
            for worker in self._workers:
                if worker.process.is_alive() and worker.process.pid:
                    os.kill(worker.process.pid, sig)

    def _replace(self) -> None:
        """Start the workers that are missing."""
        while (
            not self._stopping
            and len(self._workers) < self._settings.workers
            and time.monotonic() >= self._start_at
        ):
            news, tell = _spawn.Pipe(duplex=False)
            process = _spawn.Process(
                target=_work,
                args=(self._settings, self._listener, tell),
                name=f"worker-{len(self._workers)}",
            )
            with _interrupts_blocked():
                process.start()
            tell.close()
            self._workers.append(Worker(process, news))

    def _look(self) -> None:
        """See which workers are ready, and which have ended."""
        for worker in list(self._workers):
            problem = self._news(worker)
            if worker.process.is_alive() and problem is None:
                continue
            worker.process.join()
            worker.news.close()
            self._workers.remove(worker)
            forget_worker(worker.process.pid or 0, self._folder)
            forget_report(worker.process.pid or 0, self._folder)
            if not self._stopping:
                self._ended(worker, problem)
            elif worker.process.exitcode == CUT_SHORT:
                self._cut_short = True
        if not self._announced and len(self._workers) == self._settings.workers:
            self._announced = all(worker.ready for worker in self._workers)
            if self._announced:
                _announce(self._listener, self._settings)

    def _news(self, worker: Worker) -> str | None:
        """Hear whether it is ready; why it cannot be, where it says so."""
        if worker.ready or not worker.news.poll():
            return None
        try:
            problem: str | None = worker.news.recv()
        except EOFError:
            return None  # it has ended without a word
        if problem is None:
            worker.ready = True
            self._failures = 0
        return problem

    def _ended(self, worker: Worker, problem: str | None) -> None:
        """Replace it, later and later where that fails.

        Raises:
            ServeError: where the service never stood: the next attempt would fail as well.
        """
        status = worker.process.exitcode
        if not self._announced:
            raise ServeError(problem or f"a worker ended with status {status} before it was ready")
        if not worker.ready:
            self._failures += 1
            self._start_at = time.monotonic() + min(2.0**self._failures, LONGEST_PAUSE_S)
        log.error(
            "worker ended", pid=worker.process.pid, status=status, error=problem, others="serve on"
        )


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Until it says otherwise the new process has no Ctrl-C, which would end its imports aloud."""
    resource_tracker.ensure_running()  # or the first start would start it, and let them through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(settings: Settings, listener: socket.socket, tell: Connection) -> None:
    """What a worker does."""
    os.setpgid(0, 0)  # Ctrl-C is for the parent, which passes it on
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # and which ends it without a word until it serves
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_follow_parent, daemon=True).start()
    logs.configure(settings.log_level, pid=os.getpid())
    try:
        with used(Path(os.environ[FOLDER])):  # for as long as this process, if the parent is killed
            run(settings, listener, lambda: tell.send(None))
    except SuperbinError as error:
        tell.send(str(error))
        sys.exit(START_FAILED)


def _follow_parent() -> None:
    """End in good order where the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
