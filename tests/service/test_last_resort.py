"""The end of a process that cannot end: whatever its threads wait for, and nobody reads its log."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from service.last_resort import CUT_SHORT
from tests.integration.server import DEADLINE_S

BLOCKED = """
import os, signal, sys, threading
from service.last_resort import LastResort

resort = LastResort(lambda: sys.argv[1] == "let go")
resort.start()
signal.signal(signal.SIGTERM, lambda *_: resort.within(0.1))
os.set_blocking(1, False)
try:
    while True:
        os.write(1, b"x")
except BlockingIOError:
    os.set_blocking(1, True)  # from now on a line waits for somebody who reads
os.write(2, b"blocked")
while True:
    threading.Event().wait()
"""


@pytest.mark.parametrize(("state", "status"), [("let go", 0), ("at work", CUT_SHORT)])
def test_a_blocked_main_thread_and_a_full_log_keep_no_process_from_ending(
    state: str, status: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED, state], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.read(7) == b"blocked"
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == status
        finally:
            process.kill()
