"""An old and a new bundle on the same photos, as served, superclass by superclass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.bundle import Bundle
from service.classifier import Classifier
from training.bank_change import Seen, see
from training.data.photos import Photo, PhotoSet
from training.errors import ConfigError, DataError
from training.metrics import balanced_accuracy, confidences
from training.outcome import Array, measure_bundle
from training.paired import Paired, pair

TEST, HELD_OUT = "test", "reviewed, held out"


@dataclass(frozen=True)
class Deciding:
    """What one model does at its threshold: shares of all photos, and of those that are sorted."""

    balanced_accuracy: float
    sorted_share: float
    wrong_of_sorted: float | None


@dataclass(frozen=True)
class Compared:
    """Both models on one set of photos.

    Attributes:
        superclasses: those that have photos in the set.
        overall: of all photos, so its recall is accuracy.
    """

    name: str
    superclasses: dict[str, Paired]
    overall: Paired
    old: Deciding
    new: Deciding

    def losses(self, margin: float) -> list[str]:
        """The superclasses on which the new model is worse by more than the margin, in words."""
        return [
            f"{superclass} ({self.name}): {one.old:.2%} to {one.new:.2%}, {one.difference:+.2%} "
            f"on {one.photos} photos"
            for superclass, one in self.superclasses.items()
            if one.worse_by_more_than(margin)
        ]


def check_alike(old: Bundle, new: Bundle) -> None:
    """See that both answer the same question, and that they are two.

    Raises:
        ConfigError: where their superclasses differ, or nothing but name and version does.
    """
    names = {"name", "version"}
    if old.manifest.model_dump(exclude=names) == new.manifest.model_dump(exclude=names):
        raise ConfigError(
            f"expected another model than {old.id}, got {new.path}, which is the same file by "
            "file: there is nothing to promote; name the bundle that is to follow it"
        )
    before, after = old.manifest.superclasses, new.manifest.superclasses
    if set(before) != set(after):
        raise ConfigError(
            f"{old.id} has the superclasses {list(before)}, and {new.id} {list(after)}: they "
            "cannot be compared, and clients would meet other answers"
        )


def compare_on_test(old: Bundle, new: Bundle, data: PhotoSet) -> Compared:
    """On the test split, through each bundle's default variant.

    Raises:
        ConfigError: where a photo of it is in a bank.
        DataError: where there is none.
    """
    _check_unknown(old, new, {photo.path for photo in data.split(TEST)})
    outcomes = [measure_bundle(bundle.path, data, TEST) for bundle in (old, new)]
    if outcomes[0].photos != outcomes[1].photos:
        raise DataError("expected both models to be able to read the same photos")
    answers = [
        (one.probabilities(), bundle) for one, bundle in zip(outcomes, (old, new), strict=True)
    ]
    return _compared(TEST, [photo.superclass for photo in outcomes[0].photos], answers)


def compare_on_held_out(old: Bundle, new: Bundle, held_out: tuple[Photo, ...]) -> Compared | None:
    """On held-out reviewed photos; None where no photo of them decodes.

    Raises:
        ConfigError: where one of them is in a bank.
    """
    _check_unknown(old, new, {photo.path for photo in held_out})
    answers: list[tuple[Array, Bundle]] = []
    names: list[str] = []
    for bundle in (old, new):
        seen, _ = see(held_out, bundle.manifest)
        if not seen.photos:
            return None
        names = [photo.superclass for photo in seen.photos]
        answers.append((_answered(bundle, seen), bundle))
    return _compared(HELD_OUT, names, answers)


def _answered(bundle: Bundle, seen: Seen) -> Array:
    classifier = Classifier(bundle)
    rows = [classifier.run(seen.pixels[i : i + 1]).probabilities for i in range(len(seen.photos))]
    return np.concatenate(rows).astype(np.float64)


def _check_unknown(old: Bundle, new: Bundle, paths: set[str]) -> None:
    for bundle in (old, new):
        if known := sorted(paths & {item.id for item in bundle.manifest.bank.items}):
            raise ConfigError(
                f"{bundle.id} has {len(known)} of the photos that it is measured by in its bank, "
                f"first {known[0]}: no figure would mean anything"
            )


def _compared(name: str, superclasses: list[str], answers: list[tuple[Array, Bundle]]) -> Compared:
    right, deciding = [], []
    for probabilities, bundle in answers:
        order = bundle.manifest.superclasses
        labels = np.array([order.index(one) for one in superclasses])
        right.append(probabilities.argmax(axis=1) == labels)
        deciding.append(_decide(probabilities, labels, bundle))
    truth = np.array(superclasses)
    each = {
        one: pair(right[0][truth == one], right[1][truth == one])
        for one in answers[0][1].manifest.superclasses
        if one in superclasses
    }
    return Compared(name, each, pair(*right), *deciding)


def _decide(probabilities: Array, labels: Array, bundle: Bundle) -> Deciding:
    manifest = bundle.manifest
    confidence, correct = confidences(probabilities, labels)
    passed = confidence >= manifest.calibration.confidence_threshold
    return Deciding(
        balanced_accuracy(probabilities.argmax(axis=1), labels, len(manifest.superclasses)),
        float(passed.mean()),
        float((~correct[passed]).mean()) if passed.any() else None,
    )
