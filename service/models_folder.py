"""The folder of models, `<name>/<version>/`: which bundles are there, and which one is meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.bundle import MANIFEST, read_manifest
from service.errors import BundleError

DEFAULT_MODEL = "refuse"


def default_models_dir() -> Path:
    """`models` beside the `service` package where that exists, else in the working directory."""
    beside = Path(__file__).resolve().parent.parent / "models"
    return beside if beside.is_dir() else Path("models")


def find_bundles(models_dir: Path) -> Iterator[Path]:
    """Folders `<name>/<version>` below `models_dir` that hold a manifest; versions in order."""
    found = [file.parent for file in models_dir.glob(f"*/*/{MANIFEST}")]
    yield from sorted(found, key=lambda path: (path.parent.name, version_key(path.name)))


def version_key(version: str) -> tuple[tuple[int, str], ...]:
    """Sort key that puts 10 after 9 and words after numbers."""
    parts = version.replace("-", ".").split(".")
    return tuple((int(p), "") if p.isdecimal() else (1 << 62, p) for p in parts)


def resolve_bundle(models_dir: Path, reference: str) -> Path:
    """The folder of `name`, its newest version, or of `name/version`.

    Raises:
        BundleError: where there is none, with those that there are, or no such folder.
    """
    if not models_dir.is_dir():
        raise BundleError(
            f"expected a folder of bundles, got {models_dir}: there is no such folder"
        )
    name, _, version = reference.partition("/")
    paths = list(find_bundles(models_dir))
    matches = [p for p in paths if p.parent.name == name and version in ("", p.name)]
    if not matches:
        known = ", ".join(f"{p.parent.name}/{p.name}" for p in paths) or "none"
        raise BundleError(f"expected a bundle {reference!r} in {models_dir}, which has: {known}")
    return matches[-1]


class FolderWatch:
    """Tells which bundles are new, by what the system says of their files; for one at a time."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._seen: set[tuple[object, ...]] = set()

    def look(self) -> list[Path]:
        """Bundles of which a file is new, or another, since the last look."""
        fresh = []
        for path in find_bundles(self._models_dir):
            with suppress(OSError):  # it is being moved or removed
                files = sorted((f.name, *_marks(f.stat())) for f in path.iterdir())
                if (path, *files) not in self._seen:
                    self._seen.add((path, *files))
                    fresh.append(path)
        return fresh


def _marks(found: os.stat_result) -> tuple[int, ...]:
    """Of a file; one that may be read at last has the time and the size that it had."""
    return found.st_mtime_ns, found.st_size, found.st_mode, found.st_uid, found.st_gid


def known_superclasses(models_dir: Path) -> set[str]:
    """Those of every bundle whose manifest can be read."""
    known: set[str] = set()
    for path in find_bundles(models_dir):
        with suppress(BundleError):
            known.update(read_manifest(path).superclasses)
    return known
