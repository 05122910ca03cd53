"""A bundle's `drift-*.npz`: what answers look like while camera, light and place are as they were.

Written by `superbin export`, `reference` and `correct` from the photos of val, read by
`service.drift`. Everything is told by predicted superclass, so that another mix of superclasses is
no drift.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.appearance import NAMES
from service.bundle import Bundle
from service.errors import BundleError

DRIFT = "drift.npz"
STRINGS = ("words", "statistics")
PARTS = ("embedding", "confidence", "likeness", "appearance")

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class DriftReference:
    """Over K superclasses, embeddings of E, histograms of B bins and A statistics of pixels.

    All but words and names is float32 in the file, and float64 once it is read. A is 0 where
    `appearance` is not watched, which is so in files that were written before there was such a
    part: they have no arrays of it. P is the number of parts that are watched.

    Attributes:
        window: [], photos of which the moving averages hold as much as a plain mean would.
        thresholds: [P], of each of `parts`: what its statistic reaches in one run of
            `run_photos` out of 1 / `false_alarms`, when nothing is wrong.
        means: [K, E], of the embedding.
        whitening: [E, E], from a mean's deviation to numbers of unit variance.
        edges: [2, B - 1], of `service.drift_window.surprise` of `confidence` and of `likeness`.
        shares: [2, K, B], of the photos in each bin.
        bin_whitening: [2, B, B], as `whitening`.
        confidences: [K], mean confidence.
        signatures: [S, E], of unit length: where the whitened mean goes when photos change.
        words: [S] strings, what each of those changes is.
        statistics: [A] strings, names of `service.appearance.STATISTICS`.
        appearance_means: [K, A], of those statistics.
        appearance_whitening: [A, A], as `whitening`.
        appearance_scales: [A], deviations of each statistic, by the covariance of that whitening.
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
    statistics: npt.NDArray[np.str_]
    appearance_means: Floats
    appearance_whitening: Floats
    appearance_scales: Floats
    photos: Floats
    run_photos: Floats
    false_alarms: Floats

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of `PARTS` that are watched."""
        return PARTS if self.watches_appearance else PARTS[:-1]

    @property
    def watches_appearance(self) -> bool:
        """Whether `service.appearance` is to be measured of each photo."""
        return len(self.statistics) > 0


def write_reference(path: Path, reference: DriftReference) -> None:
    """Write the file."""
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
            given = {name: stored[name] for name in stored.files}
    except (OSError, EOFError, TypeError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{file}: expected the arrays of a drift reference: {error}") from error
    superclasses = len(bundle.manifest.superclasses)
    arrays = _without_appearance(superclasses) | given
    names = [field.name for field in fields(DriftReference)]
    if missing := [name for name in names if name not in arrays]:
        raise BundleError(f"{file}: expected the arrays of a drift reference, got no {missing}")
    reference = DriftReference(**{name: arrays[name] for name in names})
    _check(file, reference, superclasses)
    wide = {name: arrays[name].astype(np.float64) for name in names if name not in STRINGS}
    return replace(reference, **wide)


def _without_appearance(superclasses: int) -> dict[str, npt.NDArray[Any]]:
    """What stands for the part where it is not watched."""
    return {
        "statistics": np.zeros(0, "U1"),
        "appearance_means": np.zeros((superclasses, 0), np.float32),
        "appearance_whitening": np.zeros((0, 0), np.float32),
        "appearance_scales": np.zeros(0, np.float32),
    }


def _check(file: Path, reference: DriftReference, superclasses: int) -> None:
    """
    Raises:
        BundleError: where shapes do not fit each other, or a number is none.
    """
    statistics = tuple(reference.statistics.tolist())
    if statistics not in ((), NAMES):
        raise BundleError(
            f"{file}: expected the statistics {list(NAMES)}, got {list(statistics)}; `superbin "
            "reference` makes it anew"
        )
    width = reference.means.shape[-1]
    bins = reference.shares.shape[-1]
    expected: dict[str, tuple[int, ...]] = {
        "window": (),
        "thresholds": (len(reference.parts),),
        "means": (superclasses, width),
        "whitening": (width, width),
        "edges": (2, bins - 1),
        "shares": (2, superclasses, bins),
        "bin_whitening": (2, bins, bins),
        "confidences": (superclasses,),
        "signatures": (len(reference.words), width),
        "appearance_means": (superclasses, len(statistics)),
        "appearance_whitening": (len(statistics), len(statistics)),
        "appearance_scales": (len(statistics),),
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
    if not (reference.appearance_scales > 0).all():
        raise BundleError(f"{file}: expected appearance_scales above 0")
