"""Pictures of what is of no superclass that join a bundle's background, and what that does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from service.bundle import Bundle
from service.classifier import Classifier
from training.bank_change import some
from training.data.background import open_background
from training.data.photos import PhotoSet
from training.data.store import open_store
from training.doubt_reference import SPLIT, answers_to, embeddings
from training.errors import ConfigError
from training.served_bank import SAME, ServedBank


@dataclass(frozen=True)
class Grown:
    """A bank with a larger background.

    Attributes:
        added: names of the pictures that joined.
        known: of those that it had already, or another that is the same.
        items: name to the bank item that shows the same, of those that stayed out for that.
    """

    bank: ServedBank
    added: tuple[str, ...]
    known: tuple[str, ...]
    items: dict[str, str]

    def told(self) -> list[str]:
        """What happened, in lines."""
        assert self.bank.background is not None
        now = len(self.bank.background)
        lines = [f"background: {len(self.added)} added, {now - len(self.added)} to {now} pictures"]
        if self.known:
            lines.append(f"in the background already: {some(self.known)}")
        if self.items:
            pairs = [f"{name} is {item}" for name, item in self.items.items()]
            lines.append(f"left out of the background, since the bank has them: {some(pairs)}")
        return lines


def grow_background(bank: ServedBank, bundle: Bundle, folder: Path) -> Grown:
    """Let the pictures below a folder join, each of them once.

    Raises:
        ConfigError: for a bundle without a background, whose graph could not compare with one.
        DataError: where the folder has hardly a picture.
    """
    if bank.background is None:
        raise ConfigError(
            f"expected a bundle with a background, got {bundle.id}, whose graph compares with "
            "none: superbin train with --set matching.background=FOLDER makes one that does"
        )
    store = open_background(folder, bundle.manifest.preprocessing)
    rows = embeddings(Classifier(bundle), store.pixels, "background")
    background, added, known = bank.background, [], []
    items: dict[str, str] = {}
    for photo, row in zip(store.photos, rows, strict=True):
        if same := bank.alike("", row):
            items[photo.path] = same[0].id
        elif (background @ row >= SAME).any():
            known.append(photo.path)
        else:
            added.append(photo.path)
            background = np.concatenate([background, row[np.newaxis]])
    grown = replace(bank, background=background)
    return Grown(grown, tuple(added), tuple(known), items)


def unfamiliar(before: Bundle, after: Bundle, data: PhotoSet) -> str:
    """How many photos of val are doubted as unfamiliar, before and after."""
    known = data.split(SPLIT)
    if not known or before.manifest.familiarity is None:
        return ""
    pixels = open_store(data.root, known, before.manifest.preprocessing).pixels
    shares = []
    for bundle in (before, after):
        answers = answers_to(Classifier(bundle), pixels, SPLIT)
        told = np.concatenate([a.familiarity for a in answers if a.familiarity is not None])
        shares.append(float((told < before.manifest.familiarity.threshold).mean()))
    return f"of {SPLIT} {shares[0]:.2%} of the photos were unfamiliar, and {shares[1]:.2%} are now"
