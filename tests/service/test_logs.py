"""Log lines that cannot be written: they are lost, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

from service.logs import Lines
from tests.integration.server import ROOT

PATIENCE_S = 60


def test_a_line_that_was_cut_off_spoils_none_after_it() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # so that it takes what fits, as a disk does
    lost: list[str] = []
    lines = Lines(writer)
    lines.lose = lambda: lost.append("one")
    long = "x" * 1_000_000
    lines.write(f"{long}\n")
    lines.write("two\n")
    assert lost == ["one", "one"]
    written = len(os.read(reader, len(long)))
    assert 0 < written < len(long)
    lines.write("three\n")
    lines.write("four\n")
    assert os.read(reader, 100) == b"\nthree\nfour\n"
    os.close(reader)
    lines.write("five\n")  # nobody reads them any more
    os.close(writer)
    lines.write("six\n")
    assert len(lost) == 4


OUTLIVES = """
from service import logs
from tests.engine import POISON, Gate, ask, run, scheduler, values

async def test():
    engine = scheduler(Gate(), decode_workers=0)
    await ask(engine, POISON)
    assert values(await ask(engine, 1)) == [1]
    await engine.close()

logs.configure("info")
run(test)
"""


def test_a_thread_outlives_an_error_that_it_cannot_log_and_the_process_ends_well() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        command = ["env", "-u", "PYTHONUNBUFFERED", sys.executable, "-c", OUTLIVES]
        subprocess.run(command, cwd=ROOT, check=True, stdout=stdout, timeout=PATIENCE_S)


def test_without_stdout_no_other_file_takes_its_lines() -> None:
    code = """
import os, socket, structlog
from service import logs

one, other = socket.socketpair()
assert 1 in (one.fileno(), other.fileno())
logs.configure("info")
structlog.get_logger().info("for nobody")
for end in (one, other):
    end.setblocking(False)
    try:
        raise SystemExit(f"got {end.recv(100)!r}")
    except BlockingIOError:
        pass
"""
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", code]
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE_S)
