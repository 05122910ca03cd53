"""An old and a new bundle on the same photos, as served, superclass by superclass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from service.bundle import Bundle
from service.classifier import Classifier
from training.bank_change import Seen, see
from training.data.photos import Photo, PhotoSet
from training.errors import ConfigError, DataError
from training.metrics import balanced_accuracy, confidences, credible_interval
from training.outcome import Array, measure_bundle
from training.paired import LEAST, Paired, pair
from training.served_bank import in_bank

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
        overall: of all photos, so its recall is accuracy, with the intervals of
            `training.metrics.credible_interval`, as `superbin evaluate` has them.
        left_out: photos that were not counted, since a bank has them.
    """

    name: str
    superclasses: dict[str, Paired]
    overall: Paired
    old: Deciding
    new: Deciding
    left_out: int = 0

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
    """On the test split, through each bundle's default variant, less the photos that a bank has.

    Raises:
        ConfigError: where a photo of it is in a bank by its name, so that the model learned it.
        DataError: where there is none, or too few that neither bank has.
    """
    _check_unknown(old, new, {photo.path for photo in data.split(TEST)})
    outcomes = [measure_bundle(bundle.path, data, TEST) for bundle in (old, new)]
    if outcomes[0].photos != outcomes[1].photos:
        raise DataError("expected both models to be able to read the same photos")
    answers = [
        Answered(bundle, one.probabilities(), one.embedding)
        for one, bundle in zip(outcomes, (old, new), strict=True)
    ]
    return _compared(TEST, outcomes[0].photos, answers)


def compare_on_held_out(old: Bundle, new: Bundle, held_out: tuple[Photo, ...]) -> Compared | None:
    """On held-out reviewed photos, less those that a bank has; None where no photo decodes.

    Raises:
        ConfigError: where one of them is in a bank by its name.
        DataError: where there are too few that neither bank has.
    """
    _check_unknown(old, new, {photo.path for photo in held_out})
    answers: list[Answered] = []
    photos: tuple[Photo, ...] = ()
    for bundle in (old, new):
        seen, _ = see(held_out, bundle.manifest)
        if not seen.photos:
            return None
        photos = seen.photos
        answers.append(_answered(bundle, seen))
    return _compared(HELD_OUT, photos, answers)


@dataclass(frozen=True)
class Answered:
    """A bundle's answers to n photos: probabilities float64 [n, K], embedding float32 [n, E]."""

    bundle: Bundle
    probabilities: Array
    embedding: Array


def _answered(bundle: Bundle, seen: Seen) -> Answered:
    classifier = Classifier(bundle)
    answers = [classifier.run(seen.pixels[i : i + 1]) for i in range(len(seen.photos))]
    probabilities = np.concatenate([one.probabilities for one in answers]).astype(np.float64)
    return Answered(bundle, probabilities, np.concatenate([one.embedding for one in answers]))


def _check_unknown(old: Bundle, new: Bundle, paths: set[str]) -> None:
    for bundle in (old, new):
        if known := sorted(paths & {item.id for item in bundle.manifest.bank.items}):
            raise ConfigError(
                f"{bundle.id} has {len(known)} of the photos that it is measured by in its bank, "
                f"first {known[0]}: no figure would mean anything"
            )


def _compared(name: str, photos: Sequence[Photo], answers: list[Answered]) -> Compared:
    """Both models' answers to the photos that neither bank has."""
    known = np.any([in_bank(one.bundle, photos, one.embedding) for one in answers], axis=0)
    left = tuple(compress(photos, ~known))
    _check_enough(name, photos, left, answers)
    right, deciding, intervals = [], [], []
    for one in answers:
        probabilities, order = one.probabilities[~known], one.bundle.manifest.superclasses
        labels = np.array([order.index(photo.superclass) for photo in left])
        predicted = probabilities.argmax(axis=1)
        right.append(predicted == labels)
        intervals.append(credible_interval(predicted, labels, len(order), "accuracy"))
        deciding.append(_decide(probabilities, labels, one.bundle))
    truth = np.array([photo.superclass for photo in left])
    each = {
        one: pair(right[0][truth == one], right[1][truth == one])
        for one in answers[0].bundle.manifest.superclasses
        if one in truth
    }
    overall = replace(pair(*right), old_interval=intervals[0], new_interval=intervals[1])
    return Compared(name, each, overall, deciding[0], deciding[1], int(known.sum()))


def _check_enough(
    name: str, photos: Sequence[Photo], left: Sequence[Photo], answers: list[Answered]
) -> None:
    """See that what the banks have leaves of each superclass what can tell two models apart.

    Where there were few from the first, that is for the report to say.

    Raises:
        DataError: where it does not.
    """
    before, after = (Counter(photo.superclass for photo in some) for some in (photos, left))
    few = [
        f"{after[one]} of {count} {one}"
        for one, count in before.items()
        if not after[one] or after[one] < LEAST <= count
    ]
    if few:
        old, new = (one.bundle.id for one in answers)
        raise DataError(
            f"{name}: the bank of {old} or {new} has {len(photos) - len(left)} of the "
            f"{len(photos)} photos (the same ones or near copies), which then say nothing; of what "
            f"is left, {', '.join(few)}, too few can tell the models apart: expected {LEAST} of "
            "each superclass that neither bank has; measure by other photos, or by models whose "
            "banks lack these"
        )


def _decide(probabilities: Array, labels: Array, bundle: Bundle) -> Deciding:
    manifest = bundle.manifest
    confidence, correct = confidences(probabilities, labels)
    passed = confidence >= manifest.calibration.confidence_threshold
    return Deciding(
        balanced_accuracy(probabilities.argmax(axis=1), labels, len(manifest.superclasses)),
        float(passed.mean()),
        float((~correct[passed]).mean()) if passed.any() else None,
    )
