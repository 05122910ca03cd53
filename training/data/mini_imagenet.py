"""mini-ImageNet in Ravi & Larochelle's layout (2017): `images/*.jpg` and three tables.

`train.csv`, `val.csv` and `test.csv` have the columns `filename,label`, the label a WordNet id.
Their classes are disjoint (64, 16 and 20), made for learning from a few examples of new classes. A
superclass is learned from all its classes, so the three are read as one, and train, val and test
are drawn anew by the hash of the path, within every class.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.photo import Found, LeftOut, Photo, is_below, read_table
from training.errors import DataError

TABLES = ("train.csv", "val.csv", "test.csv")
IMAGES = "images"


def find_mini_imagenet(root: Path) -> Path | None:
    """`root` where it has the tables and the folder of images."""
    there = all((root / name).is_file() for name in TABLES) and (root / IMAGES).is_dir()
    return root if there else None


def read_mini_imagenet(found: Found) -> Iterator[Photo | LeftOut]:
    """The photos of all three tables, with no split; the subclass is the WordNet id.

    Raises:
        DataError: where a table is none of this layout, or a name leads out of the folder.
    """
    for table in TABLES:
        for where, row in read_table(found.folder / table, ("filename", "label")):
            name = row["filename"]
            if not name or not is_below(name):
                raise DataError(f"{where}: expected a file below {IMAGES}, got {name!r}")
            label = row["label"]
            yield found.label(f"{IMAGES}/{name}", label, label, "mini-imagenet", None)
