"""An S3 server in a process of its own, over a socket: moto's, which keeps objects in memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

LISTENING = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
BUCKET = "superbin"
CHECKED_FROM = "INITIAL_NO_AUTH_ACTION_COUNT"  # of requests


@contextmanager
def s3_server(*, checks_keys: bool = False, hides: str = "") -> Iterator[dict[str, str]]:
    """The variables by which a client finds it.

    Args:
        checks_keys: and it knows none of them.
        hides: HEAD of what ends so is answered 403, as where a key may not ask.
    """
    variables = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.s3", hides],
        cwd=Path(__file__).resolve().parents[1],
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


def serve(hides: str) -> None:
    """Serve until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    whole = DomainDispatcherApplication(create_backend_app)

    def app(environ: dict[str, Any], start: Any) -> Any:
        hidden = bool(hides) and environ["PATH_INFO"].endswith(hides)
        if hidden and environ["REQUEST_METHOD"] == "HEAD":
            start("403 Forbidden", [])
            return []
        return whole(environ, start)

    run_simple("127.0.0.1", 0, app, threaded=True)


if __name__ == "__main__":
    serve(sys.argv[1])
