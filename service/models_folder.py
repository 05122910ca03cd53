"""The folder of models, `<name>/<version>/`: which bundles are there, and which one is meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from service.bundle import MANIFEST, read_manifest
from service.errors import BundleError


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
        BundleError: where there is none, with those that there are.
    """
    name, _, version = reference.partition("/")
    paths = list(find_bundles(models_dir))
    matches = [p for p in paths if p.parent.name == name and version in ("", p.name)]
    if not matches:
        known = ", ".join(f"{p.parent.name}/{p.name}" for p in paths) or "none"
        raise BundleError(f"expected a bundle {reference!r} in {models_dir}, which has: {known}")
    return matches[-1]


def known_superclasses(models_dir: Path) -> set[str]:
    """Those of every bundle whose manifest can be read."""
    known: set[str] = set()
    for path in find_bundles(models_dir):
        with suppress(BundleError):
            known.update(read_manifest(path).superclasses)
    return known
