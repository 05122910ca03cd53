"""Adience in its official layout (Eidinger et al., 2014): a folder of faces and five fold files.

`fold_0_data.txt` to `fold_4_data.txt` are tables with tabs between; a row's photo is
`aligned/<user_id>/landmark_aligned_face.<face_id>.<original_image>`, or, without `aligned`,
`faces/<user_id>/coarse_tilt_aligned_face.<face_id>.<original_image>`. The map goes from the ages
as they are written (`maps/adience.toml` says which) to the eight groups; a row whose age is in
none is left out. The subclass is the age as it is written.

The published folds are made to share no person, so they are the splits: 0 to 2 are train, 3 is
val and 4 is test. The usual protocol goes round all five.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.data.photo import Found, LeftOut, Photo, is_name, read_table
from training.errors import DataError

SPLIT_OF = {0: "train", 1: "train", 2: "train", 3: "val", 4: "test"}  # by fold
FACES = {"aligned": "landmark_aligned_face", "faces": "coarse_tilt_aligned_face"}
COLUMNS = ("user_id", "original_image", "face_id", "age")


def find_adience(root: Path) -> Path | None:
    """`root` where it has the fold files and a folder of faces."""
    folds = all(fold_file(root, fold).is_file() for fold in SPLIT_OF)
    return root if folds and any((root / name).is_dir() for name in FACES) else None


def fold_file(folder: Path, fold: int) -> Path:
    """A fold's table."""
    return folder / f"fold_{fold}_data.txt"


def read_adience(found: Found) -> Iterator[Photo | LeftOut]:
    """The faces of all folds.

    Raises:
        DataError: where a table is none of this layout, or a name leads out of the folder.
    """
    faces = next(name for name in FACES if (found.folder / name).is_dir())
    for fold, split in SPLIT_OF.items():
        for where, row in read_table(fold_file(found.folder, fold), COLUMNS, tabs=True):
            user, image = row["user_id"], f"{FACES[faces]}.{row['face_id']}.{row['original_image']}"
            if not (is_name(user) and is_name(image)):
                raise DataError(f"{where}: expected names of a folder and a photo, got {row}")
            yield found.label(f"{faces}/{user}/{image}", row["age"], row["age"], "adience", split)
