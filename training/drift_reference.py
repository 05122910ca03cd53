"""`drift.npz`: what answers and photos look like while nothing drifts, and how far they wander.

From the photos of val: those of the bank would each be their own neighbour, in val too. They
are taken several times with ordinary jitter, through the code that serves. What the averages of
`service.drift` reach in long runs of such photos, drawn from populations as far from val as other
photos of its kind are, is what the thresholds stand on.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.signal import lfilter

from service.appearance import NAMES
from service.bundle import Bundle, Manifest, read_bundle, record_of, sha256_of, write_manifest
from service.classifier import Classifier
from service.drift import CHECK_EVERY
from service.drift_reference import DRIFT, PARTS, DriftReference, write_reference
from service.drift_window import LEAST_SHARE
from training.camera_changes import CHANGES, Random, encoded, jittered
from training.data.photos import Photo, PhotoSet
from training.data.store import open_store
from training.doubt_reference import embeddings
from training.errors import DataError
from training.looks import Looks, look
from training.served_bank import new_to_bank

Array = npt.NDArray[Any]

SPLIT = "val"
LEAST_PHOTOS, MOST_PHOTOS = 100, 1000
JITTERS = 6
SIGNATURE_PHOTOS = 150
BINS = 8
WINDOW = 250  # photos
RUN_PHOTOS = 20_000
RUNS = 400  # by chance thresholds differ by 2 to 5% then; of 60 runs by 7 to 12
FALSE_ALARMS = 0.001  # of such runs: a plant has many cameras
# A kind's share p of a day's photos varies with a deviation of sqrt(p (1 - p) / 12).
MIX_CONCENTRATION = 11.0
LEAST_VARIANCE = 1e-4  # of the largest, in any direction that counts
LEAST_SCALE = 1e-6


def with_drift_reference(path: Path, manifest: Manifest, data: PhotoSet) -> Manifest:
    """Give the bundle at `path` its drift reference; the manifest is written too.

    Raises:
        DataError: where val has too few photos to tell.
    """
    reference = make_reference(Bundle(path, manifest), data)
    part = path / f".{DRIFT}.part"
    write_reference(part, reference)
    # Named by what it holds, so that a manifest never names another's content.
    file = f"drift-{sha256_of(part)[:8]}.npz"
    part.replace(path / file)
    kept = {name: record for name, record in manifest.files.items() if name != manifest.drift}
    files = kept | {file: record_of(path / file)}
    complete = manifest.model_copy(update={"files": files, "drift": file})
    write_manifest(path, complete)
    if manifest.drift and manifest.drift != file:
        (path / manifest.drift).unlink(missing_ok=True)
    read_bundle(path)
    return complete


def make_reference(bundle: Bundle, data: PhotoSet, seed: int = 0) -> DriftReference:
    """Look at val, and calibrate.

    Raises:
        DataError: where val has too few photos to tell.
    """
    random = np.random.default_rng(seed)
    photos = _sample(data.split(SPLIT), MOST_PHOTOS, random)
    _check_enough(len(photos))
    classifier = Classifier(bundle)
    store = open_store(data.root, photos, bundle.manifest.preprocessing)
    found = embeddings(classifier, store.pixels, SPLIT)
    new = new_to_bank(bundle, store.photos, found, f"drift reference from {SPLIT}")
    photos = tuple(compress(store.photos, new))
    _check_enough(len(photos))
    usual = look(classifier, data.root, photos, [jittered] * JITTERS, "drift reference", random)
    kinds = np.array([photo.subclass or "" for photo in photos])
    reference = describe(usual, kinds, len(bundle.manifest.superclasses))
    reference = calibrate(reference, usual, random)
    few = _sample(photos, SIGNATURE_PHOTOS, random)
    return with_signatures(reference, classifier, data.root, few, random)


def _check_enough(photos: int) -> None:
    if photos < LEAST_PHOTOS:
        raise DataError(
            f"expected at least {LEAST_PHOTOS} photos of {SPLIT} that are not in the bank for a "
            f"drift reference, got {photos}"
        )


def _sample(photos: tuple[Photo, ...], most: int, random: Random) -> tuple[Photo, ...]:
    if len(photos) <= most:
        return photos
    return tuple(photos[row] for row in sorted(random.permutation(len(photos))[:most]))


def describe(usual: Looks, kinds: npt.NDArray[np.str_], superclasses: int) -> DriftReference:
    """Means, histograms and whitenings, with thresholds that are still all 1.

    Args:
        kinds: [n], subclasses; all alike where they are not known.
    """
    predicted = usual.superclass
    means = _by_superclass(usual.embedding, predicted, superclasses)
    surprises = usual.surprises()
    edges = np.stack([_edges(values) for values in surprises]).astype(np.float32)
    hot = np.stack([one_hot(*pair) for pair in zip(surprises, edges, strict=True)])
    shares = np.stack([_by_superclass(bins, predicted, superclasses) for bins in hot])
    whitening = whiten(usual.embedding - means[predicted], kinds)
    bin_whitening = np.stack(
        [whiten(bins - of[predicted], kinds) for bins, of in zip(hot, shares, strict=True)]
    )
    confidences = _by_superclass(usual.confidence[..., None], predicted, superclasses)[:, 0]
    appearance_means = _by_superclass(usual.appearance, predicted, superclasses)
    appearance_whitening, appearance_scales = _whiten_scaled(
        usual.appearance - appearance_means[predicted], kinds
    )
    width = means.shape[1]
    return DriftReference(
        window=np.array(WINDOW, np.float32),
        thresholds=np.ones(len(PARTS), np.float32),
        means=means.astype(np.float32),
        whitening=whitening.astype(np.float32),
        edges=edges,
        shares=shares.astype(np.float32),
        bin_whitening=bin_whitening.astype(np.float32),
        confidences=confidences.astype(np.float32),
        signatures=np.zeros((0, width), np.float32),
        words=np.zeros(0, "U1"),
        statistics=np.array(NAMES),
        appearance_means=appearance_means.astype(np.float32),
        appearance_whitening=appearance_whitening.astype(np.float32),
        appearance_scales=appearance_scales.astype(np.float32),
        photos=np.array(predicted.shape[1], np.float32),
        run_photos=np.array(RUN_PHOTOS, np.float32),
        false_alarms=np.array(FALSE_ALARMS, np.float32),
    )


def _by_superclass(values: Array, predicted: Array, superclasses: int) -> Array:
    """Means [K, ...] of values [J, n, ...]; of all photos for a superclass that none was given."""
    rows = [predicted == one for one in range(superclasses)]
    overall = values.mean(axis=(0, 1))
    return np.stack([values[row].mean(axis=0) if row.any() else overall for row in rows])


def _edges(values: Array) -> Array:
    """Between bins of about equally many photos: float64 [B - 1]; ties leave some bins empty."""
    return np.asarray(np.quantile(values, np.arange(1, BINS) / BINS))


def one_hot(values: Array, edges: Array) -> Array:
    """The bin of each value: float64 [..., B]."""
    return np.eye(len(edges) + 1)[edges.searchsorted(values)]


def whiten(deviations: Array, kinds: npt.NDArray[np.str_]) -> Array:
    """From the deviation of a window's mean to unit variance where nothing drifts: [F, F].

    To the photos' covariance over the window's photos comes that of the mean over days with other
    mixes of kinds (Dirichlet), so that those directions need to move farther.

    Args:
        deviations: [J, n, F], without means.
    """
    covariance = _covariance(deviations, kinds)
    variances, directions = np.linalg.eigh(covariance)
    kept = variances > LEAST_VARIANCE * variances[-1]
    scales = np.where(kept, 1.0 / np.sqrt(np.where(kept, variances, 1.0)), 0.0)
    return np.asarray(directions * scales)


def _covariance(deviations: Array, kinds: npt.NDArray[np.str_]) -> Array:
    flat = deviations.reshape(-1, deviations.shape[-1])
    return np.asarray(flat.T @ flat / len(flat) + WINDOW * mix_covariance(deviations, kinds))


def _whiten_scaled(deviations: Array, kinds: npt.NDArray[np.str_]) -> tuple[Array, Array]:
    """`whiten` for numbers of unlike units, and the deviation of each: [F, F], [F]."""
    scales = np.sqrt(np.diag(_covariance(deviations, kinds)))
    scales = np.where(scales > LEAST_SCALE, scales, np.inf)  # photos that are all alike in it
    whitening = whiten(deviations / scales, kinds) / scales[:, np.newaxis]
    return whitening, np.where(np.isfinite(scales), scales, 1.0)


def mix_covariance(deviations: Array, kinds: npt.NDArray[np.str_]) -> Array:
    """Of the mean of all photos, [F, F], where the kinds' shares are Dirichlet-distributed."""
    names, which = np.unique(kinds, return_inverse=True)
    each = deviations.mean(axis=0)
    means = np.stack([each[which == one].mean(axis=0) for one in range(len(names))])
    shares = np.bincount(which) / len(which)
    spread = np.diag(shares) - np.outer(shares, shares)
    return np.asarray(means.T @ spread @ means / (MIX_CONCENTRATION + 1.0))


def calibrate(reference: DriftReference, usual: Looks, random: Random) -> DriftReference:
    """Thresholds that together raise a false alarm in `FALSE_ALARMS` of runs.

    Each run draws its photos from a population of its own, a bootstrap of half as many photos as
    val has: its mean is as far from val's as that of another split of this size would be.
    """
    parts = _whitened(reference, usual)
    takes, photos = usual.superclass.shape
    highest = np.empty((RUNS, len(parts)))
    for run in range(RUNS):
        population = random.integers(0, photos, photos // 2)
        drawn = random.integers(0, takes, RUN_PHOTOS), random.choice(population, RUN_PHOTOS)
        highest[run] = [highest_statistic(part[drawn]) for part in parts]
    each = np.array([upper_quantile(column, FALSE_ALARMS) for column in highest.T])
    # What never moves, such as the confidence of a model that is always sure, raises no alarm.
    each = np.where(highest.any(axis=0), each, 1.0)
    together = upper_quantile((highest / each).max(axis=1), FALSE_ALARMS)
    return _replaced(reference, thresholds=(each * together).astype(np.float32))


def _whitened(reference: DriftReference, usual: Looks) -> list[Array]:
    """Of each part the photos' whitened deviations: [J, n, F]."""
    predicted = usual.superclass
    parts = [(usual.embedding - reference.means[predicted]) @ reference.whitening]
    for one, values in enumerate(usual.surprises()):
        bins = one_hot(values, reference.edges[one])
        parts.append((bins - reference.shares[one][predicted]) @ reference.bin_whitening[one])
    appearance = usual.appearance - reference.appearance_means[predicted]
    return [*parts, appearance @ reference.appearance_whitening]


def highest_statistic(run: Array) -> float:
    """The highest that `service.drift` sees in a run of whitened deviations: [T, F]."""
    keep = 1.0 - 2.0 / (WINDOW + 1.0)
    blocks = run[: len(run) // CHECK_EVERY * CHECK_EVERY].reshape(-1, CHECK_EVERY, run.shape[1])
    fading = keep ** np.arange(CHECK_EVERY - 1, -1, -1)
    new = np.einsum("btf,t->bf", blocks, fading)  # what the photos between two checks leave
    sums = lfilter([1.0], [1.0, -(keep**CHECK_EVERY)], new, axis=0)
    seen = CHECK_EVERY * np.arange(1, len(new) + 1)
    squares = (1.0 - keep ** (2 * seen)) / (1.0 - keep**2)
    statistics = (sums**2).sum(axis=1) / squares  # the squared mean times its weight
    return float(statistics[seen >= LEAST_SHARE * WINDOW].max())


def upper_quantile(maxima: Array, exceeded: float) -> float:
    """What maxima exceed so often, by Gumbel's distribution with their mean and deviation."""
    scale = maxima.std() * np.sqrt(6.0) / np.pi
    location = maxima.mean() - np.euler_gamma * scale
    return float(location - scale * np.log(-np.log(1.0 - exceeded)))


def with_signatures(
    reference: DriftReference,
    classifier: Classifier,
    root: Path,
    photos: tuple[Photo, ...],
    random: Random,
) -> DriftReference:
    """With the direction in which each of `CHANGES`, at its middle strength, moves the mean.

    It moves from where these photos are unchanged: a few of val are not all of it.
    """

    def take(number: int) -> Callable[[Image.Image, Random], bytes]:
        change = CHANGES[number]
        strength = change.strengths[len(change.strengths) // 2]
        return lambda image, source: encoded(change.apply(image, strength, source), 90)

    takes = [jittered, *(take(number) for number in range(len(CHANGES)))]
    looks = look(classifier, root, photos, takes, "drift signatures", random)
    means = (looks.embedding - reference.means[looks.superclass]).mean(axis=1)
    signatures = (means[1:] - means[0]) @ reference.whitening
    signatures /= np.maximum(np.linalg.norm(signatures, axis=1, keepdims=True), 1e-12)
    words = np.array([change.words for change in CHANGES])
    return _replaced(reference, signatures=signatures.astype(np.float32), words=words)


def _replaced(reference: DriftReference, **arrays: Array) -> DriftReference:
    return DriftReference(**(vars(reference) | arrays))
