"""What a bundle is told of the photos that it knows, so that it can doubt others.

Two parts: limits of quality, from percentiles of val, and the familiarity that val's photos have,
with the embeddings of the bank where the graph does not tell it. Graphs stay as they are; the
manifest is replaced in one step. Of few photos a percentile says little; limits are tolerance
limits then, by the normal distribution (Krishnamoorthy and Mathew, 2009), and the wider the fewer.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import nct, norm

from service.bundle import (
    Bank,
    Bundle,
    Manifest,
    record_of,
    write_manifest,
)
from service.classifier import Answers, Classifier
from service.familiarity import (
    BACKGROUND_TEMPERATURE,
    STATISTIC,
    STATISTIC_LESS_BACKGROUND,
    TEMPERATURE,
    Familiarity,
)
from service.fitted import FamiliarityLimit, QualityLimits
from service.preprocess import Pixels
from service.quality import Quality, measure
from training.data.photos import Photo, PhotoSet
from training.data.review import REVIEW
from training.data.store import PixelStore, open_store
from training.errors import ConfigError, DataError
from training.progress import track
from training.served_bank import MATCHING, new_to_bank, served_bank

Floats = npt.NDArray[np.float32]

SPLIT = "val"
ACCEPTED_SHARE = 0.99
QUALITY_PART = 0.2  # of those that are not accepted: each of the four measures may doubt so many
# Photos for percentiles, and of fewer how sure a limit is. Of 10 of val of refuse at random one by
# percentile doubts 9% of the others, one so sure 1%, and one of 0.95 hardly anything foreign.
ENOUGH, SURE = 100, 0.75
LEAST_FAMILIAR = -2.0
BATCH = 2  # on a CPU more gain nothing
# From the percentile on away from good photos. A photo a stop and a half darker than any of val is
# still answered well, and an object may be small; where sharpness ends, accuracy has begun to fall.
LIGHT_MARGIN, CLIPPED_MARGIN, SHARPNESS_MARGIN, CONTRAST_MARGIN = 0.6, 0.9, 0.9, 0.8


def with_doubts(
    path: Path, manifest: Manifest, photos: PhotoSet, accepted_share: float = ACCEPTED_SHARE
) -> Manifest:
    """The manifest with limits, written; what it had of them before is replaced.

    Raises:
        DataError: where all of val are in the bank, or a photo of the bank is not among these and
            the graph does not tell how familiar a photo is.
        ConfigError: for a share that leaves nothing.
    """
    if not 0.5 <= accepted_share < 1.0:
        raise ConfigError(f"expected a share of 0.5 up to below 1, got {accepted_share}")
    bundle = Bundle(path, manifest)
    if not (known := photos.split(SPLIT)):
        raise DataError(f"{photos.root} has no photo in the split {SPLIT!r}")
    if len(known) < ENOUGH:
        print(
            f"limits of doubt are of {len(known)} photos of {SPLIT}, and wide for that: less is "
            f"doubted; {ENOUGH} tell more"
        )
    store = open_store(photos.root, known, manifest.preprocessing)
    limited = with_quality(manifest, store.pixels, accepted_share)
    complete, old = with_familiarity(bundle, limited, photos, store, accepted_share)
    write_manifest(path, complete)
    if old and old not in complete.files:
        (path / old).unlink(missing_ok=True)
    return complete


def with_quality(manifest: Manifest, pixels: Pixels, accepted_share: float) -> Manifest:
    """With limits from photos [n, H, W, 3]."""
    share = 1.0 - (1.0 - accepted_share) * QUALITY_PART
    limits = quality_limits([measure(photo) for photo in pixels], share)
    return manifest.model_copy(update={"quality": limits})


def reached(values: npt.ArrayLike, share: float) -> float:
    """What `share` of such values reach, with the confidence `SURE` where there are few of them."""
    found = np.asarray(values, dtype=float)
    count = len(found)
    least = float(np.quantile(found, 1.0 - share))
    if count >= ENOUGH:
        return least
    if count < 2:
        return -np.inf
    factor = nct.ppf(SURE, count - 1, norm.ppf(share) * count**0.5) / count**0.5
    return min(least, float(found.mean() - factor * found.std(ddof=1)))


def quality_limits(measured: list[Quality], share: float) -> QualityLimits:
    """Limits that leave `share` of these by each measure, moved away from them by a margin."""

    def least(name: str) -> float:
        return max(0.0, reached([getattr(one, name) for one in measured], share))

    clipped = min(1.0, -reached([-one.clipped for one in measured], share))
    return QualityLimits(
        least_light=LIGHT_MARGIN * least("light"),
        most_clipped=1.0 - CLIPPED_MARGIN * (1.0 - clipped),
        least_sharpness=SHARPNESS_MARGIN * least("sharpness"),
        least_contrast=CONTRAST_MARGIN * least("contrast"),
        accepted_share=share,
        split=SPLIT,
        photos=len(measured),
    )


def with_familiarity(
    bundle: Bundle, manifest: Manifest, photos: PhotoSet, val: PixelStore, accepted_share: float
) -> tuple[Manifest, str | None]:
    """With the threshold from the photos of val that the bank does not have.

    Where the graph does not tell how familiar a photo is, with the bank's embeddings in a file. It
    is named by what it holds, so that the manifest never names another's content.

    Returns:
        The manifest, and the file that the one before named.
    """
    classifier = Classifier(bundle)
    answers = answers_to(classifier, val.pixels, SPLIT)
    found = np.concatenate([one.embedding for one in answers])
    new = new_to_bank(bundle, val.photos, found, f"familiarity from {SPLIT}")
    told = [one.familiarity for one in answers if one.familiarity is not None]
    file: str | None = None
    if told:
        familiar = np.concatenate(told)[new]
    else:
        items = bank_embeddings(classifier, manifest, photos).astype(np.float16)
        content = io.BytesIO()
        np.save(content, items, allow_pickle=False)
        file = f"familiarity-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.npy"
        (bundle.path / file).write_bytes(content.getvalue())
        familiar = Familiarity(items.astype(np.float32), TEMPERATURE).of(found[new])
    compared = told and served_bank(bundle).background is not None
    limit = FamiliarityLimit(
        file=file,
        statistic=STATISTIC_LESS_BACKGROUND if compared else STATISTIC,
        temperature=BACKGROUND_TEMPERATURE if compared else TEMPERATURE,
        threshold=max(LEAST_FAMILIAR, reached(familiar, accepted_share)),
        accepted_share=accepted_share,
        split=SPLIT,
        photos=len(familiar),
    )
    old = manifest.familiarity.file if manifest.familiarity else None
    kept = {name: record for name, record in manifest.files.items() if name != old}
    files = kept | ({file: record_of(bundle.path / file)} if file else {})
    return manifest.model_copy(update={"familiarity": limit, "files": files}), old


def bank_embeddings(classifier: Classifier, manifest: Manifest, photos: PhotoSet) -> Floats:
    """float32 [M, E], in the order of the bank's items.

    Reviewed items are not among the photos; by matching their keys are their embeddings.

    Raises:
        DataError: where a photo of the bank is missing or does not decode.
    """
    bank = served_bank(classifier.bundle)
    matching = manifest.provenance.config.get("method") == MATCHING
    known = {photo.path for photo in photos.photos}
    asked = [not (matching and i.source == REVIEW and i.id not in known) for i in bank.items]
    items = tuple(item for item, wanted in zip(bank.items, asked, strict=True) if wanted)
    trained = manifest.model_copy(update={"bank": Bank(selection="", items=items)})
    store = open_store(photos.root, bank_photos(trained, photos), manifest.preprocessing)
    if store.bad:
        raise DataError(f"photos of the bank that do not decode: {store.bad}")
    rows = embeddings(classifier, store.pixels, "bank")
    if all(asked):
        return rows
    found = bank.keys.copy()
    found[asked] = rows
    return found


def bank_photos(manifest: Manifest, photos: PhotoSet) -> tuple[Photo, ...]:
    """The photos of the bank's items, in their order.

    Raises:
        DataError: where the data lack one.
    """
    by_path = {photo.path: photo for photo in photos.photos}
    missing = [item.id for item in manifest.bank.items if item.id not in by_path]
    if missing:
        raise DataError(
            f"expected the photos that the bank was made of in {photos.root}: {len(missing)} of "
            f"{len(manifest.bank.items)} are missing, first {missing[0]}"
        )
    return tuple(by_path[item.id] for item in manifest.bank.items)


def embeddings(classifier: Classifier, pixels: Pixels, label: str) -> Floats:
    """float32 [n, E] of photos [n, H, W, 3], by the graph that is served."""
    return np.concatenate([one.embedding for one in answers_to(classifier, pixels, label)])


def answers_to(classifier: Classifier, pixels: Pixels, label: str) -> list[Answers]:
    """To photos [n, H, W, 3], some at a time, by the graph that is served."""
    answers = []
    with track(f"{classifier.bundle.id}: {label}", len(pixels)) as advance:
        for start in range(0, len(pixels), BATCH):
            chunk = np.ascontiguousarray(pixels[start : start + BATCH])
            answers.append(classifier.run(chunk))
            advance(len(chunk))
    return answers
