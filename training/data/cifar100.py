"""CIFAR-100 in its official binary layout (Krizhevsky, 2009).

`train.bin` and `test.bin` have a row of 3,074 bytes for each image: coarse label, fine label, and
32 x 32 pixels as red, green and blue planes. `fine_label_names.txt` names the fine labels, which
are the subclasses here; a map says which superclass each belongs to, and may leave some out. The
test file is test; of the other, val is drawn by a hash.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from training.data.photo import Found, LeftOut, Photo
from training.errors import DataError

FILES = {"train": "train.bin", "test": "test.bin"}
NAMES = "fine_label_names.txt"
FOLDER = "cifar-100-binary"
SIDE = 32
ROW = 2 + 3 * SIDE * SIDE
_ROW_OF = re.compile(r"(.+\.bin)#(\d+)")  # how a row is named: its file and its place


def find_cifar100(root: Path) -> Path | None:
    """The folder with the binary files: `root` itself, or the one that the archive unpacks to."""
    for folder in (root, root / FOLDER):
        if all((folder / name).is_file() for name in (*FILES.values(), NAMES)):
            return folder
    return None


def read_cifar100(found: Found) -> Iterator[Photo | LeftOut]:
    """The images of the fine labels that the map has.

    Raises:
        DataError: where a file is none of this layout.
    """
    for name, subclass, split in cifar100_rows(found.folder):
        if subclass in found.owner:
            photo = found.label(name, subclass, subclass, "cifar100", split)
            yield found.draw_val(photo, photo.path)


def cifar100_rows(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Name of each row below `folder`, its fine label's name, and the split of its file.

    Raises:
        DataError: where a file is none of this layout.
    """
    names = (folder / NAMES).read_text(encoding="utf-8").split()
    for split, name in FILES.items():
        file = folder / name
        size = file.stat().st_size
        if not size or size % ROW:
            raise DataError(f"{file}: expected rows of {ROW:,} bytes, got {size:,} bytes")
        fine = np.memmap(file, dtype=np.uint8, mode="r").reshape(-1, ROW)[:, 1]
        if fine.max() >= len(names):
            raise DataError(f"{file}: expected labels below {len(names)}, got {fine.max()}")
        for row, label in enumerate(fine):
            yield f"{name}#{row}", names[label], split


def row_of(path: str) -> tuple[str, int] | None:
    """File and place of a row by its name; None for the path of a photo."""
    match = _ROW_OF.fullmatch(path)
    return (match[1], int(match[2])) if match else None


def row_as_png(file: Path, row: int) -> bytes:
    """One image as a photo is kept, without loss, so that it is decoded by the same code."""
    with file.open("rb") as stream:
        stream.seek(row * ROW + 2)
        planes = np.frombuffer(stream.read(ROW - 2), dtype=np.uint8)
    image = Image.fromarray(planes.reshape(3, SIDE, SIDE).transpose(1, 2, 0))
    encoded = io.BytesIO()
    image.save(encoded, "PNG", compress_level=0)
    return encoded.getvalue()
