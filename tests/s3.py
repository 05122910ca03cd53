"""An S3 server in a process of its own, over a socket: moto's, which keeps objects in memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

LISTENING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
BUCKET = "superbin"
CHECKED_FROM = "INITIAL_NO_AUTH_ACTION_COUNT"  # of requests


@contextmanager
def s3_server(*, checks_keys: bool = False) -> Iterator[dict[str, str]]:
    """The variables by which a client finds it; `checks_keys`: and it knows none of them."""
    variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | variables | ({CHECKED_FROM: "0"} if checks_keys else {}),
    )
    assert process.stderr is not None
    url = _url(process.stderr)
    reader = threading.Thread(target=process.stderr.read)  # or it would wait to log
    reader.start()
    try:
        yield variables | {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1"}
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


def _url(lines: IO[str]) -> str:
    for line in lines:
        if found := LISTENING.search(line):
            return found[1]
    raise AssertionError("moto's server ended before it listened")
