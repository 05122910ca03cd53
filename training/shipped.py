"""TOML files by one name: those that ship with the package, or the user's own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from service.errors import SuperbinError


def find(reference: str, folder: Path, what: str, error: type[SuperbinError]) -> Path:
    """The file of that path, or the one of that name in `folder`.

    Args:
        what: what such a file is called, for the message.
        error: raised where there is neither; it names those in the folder.
    """
    for file in (Path(reference), folder / f"{reference.removesuffix('.toml')}.toml"):
        if file.is_file():
            return file
    known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
    raise error(f"expected {what} or one of {known}, got {reference!r}")


def read(file: Path, error: type[SuperbinError]) -> dict[str, Any]:
    """A TOML file's content, with a byte order mark or without; `error` where it is none."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise error(f"{file} is not TOML: {problem}") from problem
