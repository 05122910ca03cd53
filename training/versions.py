"""Versions in a folder of models: the name of the next one, and how a bundle gets its place.

A version is never overwritten. It is put together in a folder of its own, which no service looks
into, and then renamed, so that a service that watches the folder sees all of it or nothing. What a
killed process left of one is removed when the next is put together beside it.
"""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.bundle import NAME_PATTERN, Bundle
from service.models_folder import find_bundles, version_key
from training.errors import ConfigError
from training.scratch import short_lived

BEGUN = ".new-"  # how the names of folders begin in which a version is put together


def check_place(out: Path) -> None:
    """See that a bundle can be written to `out`, which is `<models>/<name>/<version>`.

    Raises:
        ConfigError: where `out` exists already or its name cannot be a bundle's.
    """
    if out.exists():
        raise ConfigError(f"{out} exists; versions are never overwritten, name the next one")
    for part_name in (out.absolute().parent.name, out.name):
        if not re.fullmatch(NAME_PATTERN, part_name):
            raise ConfigError(
                f"expected a folder models/<name>/<version>, both of {NAME_PATTERN}, got {out}"
            )


@contextmanager
def in_place(out: Path) -> Iterator[Path]:
    """A folder to put a bundle together in; it becomes `out` where nothing went wrong.

    Else nothing of it stays, not even where the process is asked to end (SIGTERM).

    Raises:
        ConfigError: where another has taken the place meanwhile.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with _ending_in_order(), short_lived(BEGUN, out.parent) as folder:
        part = folder / out.name
        part.mkdir()
        yield part
        try:
            part.rename(out)
        except OSError as error:
            raise ConfigError(f"{out} cannot be written: {error.strerror}") from error


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM ends the process as an exception does, so that what was begun is cleared away."""
    if threading.current_thread() is not threading.main_thread():  # no other may handle signals
        yield
        return

    def end(number: int, _: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would stop the clearing
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def next_version(folder: Path) -> Path:
    """The place after the newest version of `<models>/<name>`; numbers only count.

    Raises:
        ConfigError: where there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"expected a bundle models/<name>/<version>, and {folder} is no folder")
    versions = [one.name for one in folder.iterdir() if one.name.isdecimal()]
    newest = max(versions, key=version_key, default="0")
    return folder / str(int(newest) + 1)


def who_takes_it(parent: Path, parent_id: str, out: Path) -> str:
    """Which services answer by a new version, and how to stay with the one that it was made of."""
    folder = out.absolute().parent
    taken = f"that serves {folder.name} by its name takes it within seconds"
    if parent.resolve().parent == folder.resolve():
        return f"a service {taken}; with SUPERBIN_MODEL={parent_id} it stays with {parent_id}"
    return (
        f"a service of the models in {folder.parent} (SUPERBIN_MODELS_DIR) {taken}; {parent_id}, "
        f"of which it was made, is not there but at {parent}: a service of the models there stays "
        "as it is"
    )


def newer_than(parent: Bundle, out: Path) -> str | None:
    """A warning where what a version was made of is not the newest before it."""
    folder, made_of = out.absolute().parent, parent.manifest
    there = [path.name for path in find_bundles(folder.parent) if path.parent == folder]
    newest = max({*there} - {out.name}, key=version_key, default=made_of.version)
    if version_key(newest) <= version_key(made_of.version):
        return None
    return (
        f"warning: {made_of.name}/{newest} was the newest, and {out.name} has nothing of what "
        f"joined it: it follows {parent.id}"
    )
