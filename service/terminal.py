"""How a command speaks to a terminal, and says that it failed."""

from __future__ import annotations

import io
import json
import sys
from typing import NoReturn

import typer


def fail(message: str) -> NoReturn:
    """End with status 1, after saying why on stderr."""
    print(f"superbin: {message}", file=sys.stderr)
    raise typer.Exit(1)


def print_json(value: object) -> None:
    """A line of JSON in ASCII alone: every stdout has its letters, and it can hold every name."""
    print(json.dumps(value, separators=(",", ":")))


def write_anything() -> None:
    """Escape what stdout has no letters for, as stderr does; for people, not for JSON."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
