"""How a command says that it failed."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer


def fail(message: str) -> NoReturn:
    """End with status 1, after saying why on stderr."""
    print(f"superbin: {message}", file=sys.stderr)
    raise typer.Exit(1)
