"""`superbin reference`: what a bundle must know of usual photos, added to one that is there."""

from __future__ import annotations

from pathlib import Path

from service.bundle import read_bundle
from training.card import doubts_section, put_section
from training.data.photos import read_photos
from training.doubt_reference import ACCEPTED_SHARE, with_doubts
from training.drift_reference import with_drift_reference
from training.errors import DataError


def add_references(
    path: Path,
    data: Path,
    superclass_map: Path | None,
    accepted_share: float = ACCEPTED_SHARE,
    *,
    only_drift: bool = False,
) -> None:
    """Make the references of the bundle at `path` from the photos of val.

    Its graphs stay as they are; references that it has are made anew. Limits of doubt need the
    photos that the bank was made of; drift does not, so that it can be told by other cameras.

    Raises:
        BundleError, DataError: where either side cannot be used.
        ConfigError: for a share of val that leaves nothing.
    """
    manifest = read_bundle(path).manifest
    photos = read_photos(data, superclass_map=superclass_map)
    if photos.superclasses != manifest.superclasses:
        raise DataError(
            f"the model knows the superclasses {list(manifest.superclasses)}, and {data} has "
            f"{list(photos.superclasses)}"
        )
    if not only_drift:
        manifest = with_doubts(path, manifest, photos, accepted_share)
        put_section(path, doubts_section(manifest))
        print(f"{path}: limits of doubt from val")
    with_drift_reference(path, manifest, photos)
    print(f"{path}: drift reference from val")
