"""Photos of no refuse that people have reviewed: which of them a background may have."""

from __future__ import annotations

from collections.abc import Sequence

from training.data.photo import Photo
from training.data.repeats import repeats


def fit_for_background(
    listed: Sequence[Photo], labelled: Sequence[Photo]
) -> tuple[list[Photo], dict[str, str]]:
    """The photos that are there and are no others, and path to what is wrong with the rest.

    Args:
        listed: as of no refuse; all have a file, which may be missing.
        labelled: photos that are there and of a superclass, which is believed.
    """
    files = {photo.path: photo.file for photo in (*labelled, *listed) if photo.file}
    unfit = {photo.path: "missing" for photo in listed if not files[photo.path].is_file()}
    there = [
        photo for photo in {one.path: one for one in listed}.values() if photo.path not in unfit
    ]
    both = [*labelled, *there]
    for places in repeats([files[photo.path] for photo in both]).values():
        first = both[places[0]]
        if first.superclass:
            why = f"of no refuse, and {first.path}, the same photo, of {first.superclass}"
            unfit |= {both[place].path: why for place in places if not both[place].superclass}
    return [photo for photo in there if photo.path not in unfit], unfit
