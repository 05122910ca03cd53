"""Photos that are byte for byte the same, under several names."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path


def repeats(files: Sequence[Path]) -> dict[str, list[int]]:
    """Places of the files that are equal to another, in order, by the SHA-256 of what they hold.

    Only files of one size are read. Empty ones are no copies of each other.
    """
    sizes: dict[int, list[int]] = defaultdict(list)
    for index, file in enumerate(files):
        sizes[file.stat().st_size].append(index)
    groups: dict[str, list[int]] = defaultdict(list)
    for size, members in sizes.items():
        if size and len(members) > 1:
            for index in members:
                groups[_digest(files[index])].append(index)
    return {content: members for content, members in groups.items() if len(members) > 1}


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:  # told when it is decoded; equal to nothing
        return str(file)
