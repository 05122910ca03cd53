"""Functional Map of the World, fMoW-rgb, in its official layout (Christie et al., CVPR 2018).

`train/<category>/<category>_<n>/<category>_<n>_<k>_rgb.jpg` are views of place n of a category,
each with a `.json` of the same name whose `country_code` gives the region, which is the
superclass; the category is the subclass. `val` is the same. The pan-sharpened photos (`_rgb`) are
read, the multispectral ones (`_msrgb`) not. `test` names no category and needs its labels joined
from another archive, so it is not read: the official val split is test here, and val is drawn
from train by a hash of the place, so that views of one place stay together.

A photo is taken whole and shrunk to the record's size; the bounding boxes are not used, since
the region is the same wherever one looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from training.data.photo import Found, LeftOut, Photo, read_text
from training.errors import DataError

SETS = {"train": "train", "val": "test"}  # official split -> split here
INNER = "fmow-rgb"


def find_fmow(root: Path) -> Path | None:
    """The folder that has `train`: `root`, or `fmow-rgb` in it."""
    for folder in (root, root / INNER):
        if next(folder.glob("train/*/*_[0-9]*/*_rgb.json"), None):
            return folder
    return None


def read_fmow(found: Found) -> Iterator[Photo | LeftOut]:
    """The photos of train and val, with the region of their place.

    Raises:
        DataError: where the facts about a place are no JSON or name no country.
    """
    for official, split in SETS.items():
        for place in sorted((found.folder / official).glob("*/*_[0-9]*")):
            country = None
            for photo in sorted(place.glob("*_rgb.jpg")):
                country = country or country_code(photo.with_suffix(".json"))
                name = photo.relative_to(found.folder).as_posix()
                labelled = found.label(name, country, place.parent.name, "fmow", split)
                yield found.draw_val(labelled, place.relative_to(found.folder).as_posix())


def country_code(file: Path) -> str:
    """ISO 3166-1 alpha-3 code from the facts beside a photo; one for all views of a place.

    Raises:
        DataError: where they are no JSON or name none.
    """
    try:
        code = json.loads(read_text(file))["country_code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{file}: expected a JSON object with country_code: {error!r}") from error
    if not isinstance(code, str):
        raise DataError(f"{file}: expected a country_code of letters, got {code!r}")
    return code
