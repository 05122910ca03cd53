"""What the commands say to who typed them: errors as one line, and how to go on."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from service.extras import how_to_install

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained() -> Iterator[None]:
    """Errors that are meant for the user as one line; a missing torch as the command to install."""
    try:
        from service.errors import SuperbinError

        try:
            yield
        except SuperbinError as error:
            if _speaks():
                typer.echo(f"error: {error}", err=True)
            raise typer.Exit(2) from error
        except OSError as error:
            if error.filename is not None or error.errno not in NO_ROOM:
                raise  # what has a name the root of the command tells
            typer.echo(
                f"error: expected room to write, got: {error.strerror}; free some, or name "
                "folders on another disk",
                err=True,
            )
            raise typer.Exit(2) from error
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in {"training", "service"}:
            raise
        typer.echo(
            f"error: this command needs {error.name}, which is not installed. Install the training "
            f"packages: {how_to_install('cpu', 'train')}",
            err=True,
        )
        raise typer.Exit(2) from error


def _speaks() -> bool:
    """One of the processes that torchrun starts on a machine speaks for all of them."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def tell_how_to_go_on(state: str) -> NoReturn:
    """End with status 130, after saying where things stand and what to type."""
    command = typed_command() if "--resume" in sys.argv else f"{typed_command()} --resume"
    if _speaks():
        typer.echo(f"{state} To go on:\n  {command}", err=True)
    raise typer.Exit(130)


def kept_command() -> str:
    """What was typed, to be kept with its result; of URLs, which may hold passwords, the scheme."""
    words = (word.partition("://") for word in sys.argv[1:])
    return shlex.join(["superbin", *(f"{a}://..." if mark else a for a, mark, _ in words)])


def typed_command() -> str:
    """What was typed, as it can be typed again."""
    return shlex.join(["superbin", *sys.argv[1:]])
