"""`superbin reference`: what a bundle must know of usual photos, added to one that is there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from service.bundle import Manifest, read_bundle
from training.card import doubts_section, items_section, put_section
from training.data.folds import read_photos_of
from training.data.photos import PhotoSet
from training.doubt_reference import ACCEPTED_SHARE, with_doubts
from training.drift_reference import with_drift_reference
from training.errors import ConfigError, DataError
from training.item_reference import with_item_spread

PARTS = DOUBTS, ITEMS, DRIFT = "doubts", "items", "drift"


def add_references(
    path: Path,
    data: Path,
    superclass_map: Path | None,
    accepted_share: float = ACCEPTED_SHARE,
    only: Collection[str] = (),
) -> None:
    """Make the references of the bundle at `path` from the photos of val.

    Its graphs stay as they are; references that it has are made anew. Limits of doubt need the
    photos that the bank was made of; the others do not, so that other cameras can tell them.

    Args:
        only: some of `PARTS`; none for all.

    Raises:
        BundleError, DataError: where either side cannot be used, or val has too few photos; those
            for items have to be enough where that part is named.
        ConfigError: for a share of val that leaves nothing, or a part that there is not.
    """
    if unknown := sorted(set(only) - set(PARTS)):
        raise ConfigError(f"expected --only {', '.join(PARTS)}, got {', '.join(unknown)}")
    manifest = read_bundle(path).manifest
    photos = read_photos_of(manifest, data, superclass_map)
    if not set(photos.superclasses) <= set(manifest.superclasses):
        raise DataError(
            f"the model knows the superclasses {list(manifest.superclasses)}, and {data} has "
            f"{list(photos.superclasses)}"
        )
    asked = set(only or PARTS)
    if DOUBTS in asked:
        manifest = with_doubts(path, manifest, photos, accepted_share)
        put_section(path, doubts_section(manifest))
        print(f"{path}: limits of doubt from val")
    if ITEMS in asked:
        manifest = _with_items(path, manifest, photos, asked_for=bool(only))
    if DRIFT in asked:
        with_drift_reference(path, manifest, photos)
        print(f"{path}: drift reference from val")


def _with_items(path: Path, manifest: Manifest, photos: PhotoSet, *, asked_for: bool) -> Manifest:
    try:
        manifest = with_item_spread(path, manifest, photos)
    except DataError as error:
        if asked_for:
            raise
        print(f"{path}: nothing new of items: {error}")
        return manifest
    put_section(path, items_section(manifest))
    spread = manifest.item_spread
    assert spread is not None  # it has just been fitted
    print(
        f"{path}: items from val: temperature {spread.temperature:.2f}, {spread.unnamed:.1%} for "
        "those that no reference names"
    )
    return manifest
