"""A bundle's `drift.npz`: what answers look like while camera, light and place are as they were.

Written by `superbin reference` from the photos of val, read by `service.drift`. Everything is told
by predicted superclass, so that another mix of superclasses is no drift.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.bundle import Bundle
from service.errors import BundleError

DRIFT = "drift.npz"
PARTS = ("embedding", "confidence", "likeness")

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class DriftReference:
    """Over K superclasses, embeddings of E and histograms of B bins.

    All but the words is float32 in the file, and float64 once it is read.

    Attributes:
        window: [], photos of which the moving averages hold as much as a plain mean would.
        thresholds: [3], of each of `PARTS`: what its statistic reaches in one run of
            `run_photos` out of 1 / `false_alarms`, when nothing is wrong.
        means: [K, E], of the embedding.
        whitening: [E, E], from a mean's deviation to numbers of unit variance.
        edges: [2, B - 1], of the surprise of `confidence` and of `likeness`, see `service.drift`.
        shares: [2, K, B], of the photos in each bin.
        bin_whitening: [2, B, B], as `whitening`.
        confidences: [K], mean confidence.
        signatures: [S, E], of unit length: where the whitened mean goes when photos change.
        words: [S] strings, what each of those changes is.
        photos, run_photos, false_alarms: [], what it was made from and for.
    """

    window: Floats
    thresholds: Floats
    means: Floats
    whitening: Floats
    edges: Floats
    shares: Floats
    bin_whitening: Floats
    confidences: Floats
    signatures: Floats
    words: npt.NDArray[np.str_]
    photos: Floats
    run_photos: Floats
    false_alarms: Floats


def write_reference(path: Path, reference: DriftReference) -> None:
    """Write a `drift.npz`."""
    with path.open("wb") as file:
        np.savez_compressed(file, **vars(reference))


def read_reference(bundle: Bundle) -> DriftReference | None:
    """The reference of a verified bundle, or None where it has none.

    Raises:
        BundleError: where it is no such file, or does not fit the manifest.
    """
    if bundle.manifest.drift is None:
        return None
    file = bundle.path / bundle.manifest.drift
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {field.name: stored[field.name] for field in fields(DriftReference)}
    except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{file}: expected the arrays of a drift reference: {error}") from error
    reference = DriftReference(**arrays)
    _check(file, reference, len(bundle.manifest.superclasses))
    wide = {name: array.astype(np.float64) for name, array in arrays.items() if name != "words"}
    return replace(reference, **wide)


def _check(file: Path, reference: DriftReference, superclasses: int) -> None:
    """
    Raises:
        BundleError: where shapes do not fit each other, or a number is none.
    """
    width = reference.means.shape[-1]
    bins = reference.shares.shape[-1]
    expected: dict[str, tuple[int, ...]] = {
        "window": (),
        "thresholds": (len(PARTS),),
        "means": (superclasses, width),
        "whitening": (width, width),
        "edges": (2, bins - 1),
        "shares": (2, superclasses, bins),
        "bin_whitening": (2, bins, bins),
        "confidences": (superclasses,),
        "signatures": (len(reference.words), width),
    }
    for name, shape in expected.items():
        array = getattr(reference, name)
        if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
            raise BundleError(
                f"{file}: expected {name} to be finite float32 {list(shape)}, got "
                f"{array.dtype} {list(array.shape)}"
            )
    if not (reference.window >= 1 and (reference.thresholds > 0).all()):
        raise BundleError(f"{file}: expected a window of at least 1 and thresholds above 0")
