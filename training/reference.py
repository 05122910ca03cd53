"""`superbin reference`: what a bundle must know of usual photos, added to one that is there."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from service.bundle import Manifest, read_bundle, write_manifest
from training.card import doubts_section, items_section, put_section, rename_card
from training.data.folds import read_photos_of
from training.data.photos import PhotoSet
from training.doubt_reference import ACCEPTED_SHARE, with_doubts
from training.drift_reference import with_drift_reference
from training.errors import ConfigError, DataError
from training.item_reference import with_item_spread
from training.versions import check_place, in_place

PARTS = DOUBTS, ITEMS, DRIFT = "doubts", "items", "drift"


def add_references(
    path: Path,
    data: Path,
    superclass_map: Path | None,
    accepted_share: float = ACCEPTED_SHARE,
    only: Collection[str] = (),
    out: Path | None = None,
) -> None:
    """Make the references of the bundle at `path` from the photos of val.

    Its graphs stay as they are; references that it has are made anew. Limits of doubt need the
    photos that the bank was made of, where the graph does not tell how familiar a photo is; the
    others do not, so that other cameras can tell them.

    Args:
        only: some of `PARTS`; none for all.
        out: of a version that has them, `<models>/<name>/<version>`; by default the bundle itself.

    Raises:
        BundleError, DataError: where either side cannot be used, or val has too few photos; those
            for items have to be enough where that part is named.
        ConfigError: for a share of val that leaves nothing, or a part that there is not; where
            `out` exists already or its name cannot be a bundle's.
    """
    if unknown := sorted(set(only) - set(PARTS)):
        raise ConfigError(f"expected --only {', '.join(PARTS)}, got {', '.join(unknown)}")
    if out is None:
        _add(path, data, superclass_map, accepted_share, only)
        return
    check_place(out)
    manifest = read_bundle(path).manifest
    name, version = out.absolute().parent.name, out.name
    with in_place(out) as part:
        shutil.copytree(path, part, dirs_exist_ok=True)
        write_manifest(part, manifest.model_copy(update={"name": name, "version": version}))
        rename_card(part, f"{manifest.name}/{manifest.version}", f"{name}/{version}")
        _add(part, data, superclass_map, accepted_share, only)
    print(f"bundle: {out}")


def _add(
    path: Path,
    data: Path,
    superclass_map: Path | None,
    accepted_share: float,
    only: Collection[str],
) -> None:
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
        print("limits of doubt from val")
    if ITEMS in asked:
        manifest = _with_items(path, manifest, photos, asked_for=bool(only))
    if DRIFT in asked:
        with_drift_reference(path, manifest, photos)
        print("drift reference from val")


def _with_items(path: Path, manifest: Manifest, photos: PhotoSet, *, asked_for: bool) -> Manifest:
    try:
        manifest = with_item_spread(path, manifest, photos)
    except DataError as error:
        if asked_for:
            raise
        print(f"nothing new of items: {error}")
        return manifest
    put_section(path, items_section(manifest))
    spread = manifest.item_spread
    assert spread is not None  # it has just been fitted
    print(
        f"items from val: temperature {spread.temperature:.2f}, {spread.unnamed:.1%} for "
        "those that no reference names"
    )
    return manifest
