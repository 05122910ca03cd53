"""Pictures of what is of no superclass that join a bundle's background, and what that does."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.bundle import Bundle
from service.classifier import Answers, Classifier
from service.preprocess import Pixels
from training.bank_change import some
from training.data.background import open_background
from training.data.photo import Photo
from training.data.photos import PhotoSet
from training.data.store import open_store
from training.doubt_reference import SPLIT, answers_to
from training.errors import ConfigError
from training.served_bank import SAME, ServedBank

WITH_BACKGROUND = frozenset({"refuse-matching", "refuse-words", "refuse-guided"})  # records


@dataclass(frozen=True)
class Grown:
    """A bank with a larger background.

    Attributes:
        added: names of the pictures that joined.
        known: of those that it had already, or that are in the folder twice.
        items: name to the bank item that shows the same, of those that stayed out for that.
        sorted: of those that joined and that the model would have sorted.
    """

    bank: ServedBank
    added: tuple[str, ...]
    known: tuple[str, ...]
    items: dict[str, str]
    sorted: tuple[str, ...]

    def told(self, what: str = "") -> list[str]:
        """What happened, in lines; `what` they are, where that is known."""
        assert self.bank.background is not None
        now = len(self.bank.background)
        added = f"{len(self.added)} {what}".strip()
        lines = [f"background: {added} added, {now - len(self.added)} to {now} pictures"]
        if self.known:
            lines.append(f"in the background already, or twice: {some(self.known)}")
        if self.items:
            pairs = [f"{name} is {item}" for name, item in self.items.items()]
            lines.append(f"left out of the background, since the bank has them: {some(pairs)}")
        if self.sorted:
            mend = "review them anew" if what else "take them out"
            lines.append(
                f"of those that were added {len(self.sorted)} would have been sorted, "
                f"{some(self.sorted)}: where they show what is to be sorted, {mend}, or "
                "things like them are doubted (--data tells how many)"
            )
        return lines


def grow_by_folder(bank: ServedBank, bundle: Bundle, folder: Path) -> Grown:
    """Let the pictures below a folder join, each of them once.

    Raises:
        ConfigError: for a bundle without a background, whose graph could not compare with one: it
            has no input for it, and tells familiarity by another statistic. Says what makes one.
        DataError: where the folder has hardly a picture.
    """
    if bank.background is None:
        pictures = shlex.quote(f"matching.background={folder}")
        raise ConfigError(
            f"expected a bundle with a background, got {bundle.id}, whose graph compares with none "
            f"and cannot be changed: superbin train {record_for(bundle)} --data DIR --out RUN "
            f"--set {pictures} and then superbin calibrate and superbin export make one whose "
            "background is these pictures; without --set it has those that are shipped, and these "
            "can join them"
        )
    store = open_background(folder, bundle.manifest.preprocessing)
    return grow_background(bank, bundle, store.photos, store.pixels)


def record_for(bundle: Bundle) -> str:
    """What trains a model such as this, with a background."""
    trained_by = bundle.manifest.provenance.config.get("name")
    if trained_by in WITH_BACKGROUND:
        return str(trained_by)
    return "refuse-words" if bundle.manifest.guide else "refuse-matching"


def grow_background(
    bank: ServedBank, bundle: Bundle, photos: Sequence[Photo], pixels: Pixels
) -> Grown:
    """Let n pictures, uint8 [n, H, W, 3], join the background that the bank has, each once."""
    assert bank.background is not None
    answers = answers_to(Classifier(bundle), pixels, "background")
    rows = np.concatenate([one.embedding for one in answers])
    sure = np.concatenate([would_sort(one, bundle) for one in answers])
    background, count = np.concatenate([bank.background, rows]), len(bank.background)
    added: list[str] = []
    known: list[str] = []
    mistaken: list[str] = []
    items: dict[str, str] = {}
    for photo, row, is_sorted in zip(photos, rows, sure, strict=True):
        if same := bank.alike("", row):
            items[photo.path] = same[0].id
        elif (background[:count] @ row >= SAME).any():
            known.append(photo.path)
        else:
            added.append(photo.path)
            background[count], count = row, count + 1
            if is_sorted:
                mistaken.append(photo.path)
    grown = replace(bank, background=background[:count])
    return Grown(grown, tuple(added), tuple(known), items, tuple(mistaken))


def would_sort(answers: Answers, bundle: Bundle) -> npt.NDArray[np.bool_]:
    """Which of n photos would be sorted but for doubts about their pixels: [n]."""
    limit, threshold = bundle.manifest.familiarity, bundle.manifest.calibration
    found = answers.probabilities.max(axis=1) >= threshold.confidence_threshold
    if limit is not None and answers.familiarity is not None:
        found &= answers.familiarity >= limit.threshold
    return np.asarray(found)


def unfamiliar(before: Bundle, after: Bundle, data: PhotoSet) -> list[str]:
    """A line on how many photos of val are doubted as unfamiliar, before and after, if any are."""
    known = data.split(SPLIT)
    if not known or before.manifest.familiarity is None:
        return []
    pixels = open_store(data.root, known, before.manifest.preprocessing).pixels
    shares = []
    for bundle in (before, after):
        answers = answers_to(Classifier(bundle), pixels, SPLIT)
        told = np.concatenate([a.familiarity for a in answers if a.familiarity is not None])
        shares.append(float((told < before.manifest.familiarity.threshold).mean()))
    was, now = shares
    return [f"of {SPLIT} {was:.2%} of the photos were unfamiliar, and {now:.2%} are now"]
