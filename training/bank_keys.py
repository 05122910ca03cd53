"""What a bank stores of a photo: its key and its value, for each method that has a bank.

By matching the key is the embedding, which the graph gives, and the value names the superclass. By
SCLRE both are projections that the graph does not give, so its training run is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch

from service import bundle as contract
from service.bank import Floats
from service.bundle import Bundle
from service.classifier import Classifier
from service.preprocess import Pixels
from training import checkpoint
from training.bundle_metrics import FP32
from training.data.review import REVIEW
from training.data.sampling import Indices
from training.errors import ConfigError, RunError
from training.methods.sclre import SCLRE
from training.predict import extract_features
from training.served_bank import MATCHING, ServedBank, graph_bank

SCLRE_NAME = "sclre"
# How much a reviewed item counts by default, chosen on val of refuse (tests/benchmarks/README.md):
# 10 in a bank of 5,136 photos, where more costs what is right already over 0.1 points, and 1 in one
# of 513.
MOST_WEIGHT, ITEMS_FOR_ONE = 10.0, 500
TOLERANCE = 1e-4  # between the bank of a run and that of its bundle


@dataclass(frozen=True)
class KeyMaker:
    """Makes bank items of photos.

    Attributes:
        make: uint8 [n, H, W, 3] and superclasses int64 [n] to float32 keys [n, key width] and
            values [n, value width].
        by_likeness: whether the keys' cosine says how alike two photos are.
        weight: how many items of the original bank one of these counts as.
    """

    make: Callable[[Pixels, Indices], tuple[Floats, Floats]]
    by_likeness: bool
    weight: float = 1.0


def key_maker(bundle: Bundle, bank: ServedBank, run: Path | None, weight: float | None) -> KeyMaker:
    """How this bundle's bank takes in photos.

    Args:
        run: the folder of the training run, which only SCLRE needs.
        weight: how many items of the original bank one of these counts as; `usual_weight` by
            default.

    Raises:
        ConfigError: for a method whose items cannot be made from what is given.
        RunError: for a run that is not the bundle's.
    """
    method = bundle.manifest.provenance.config.get("method")
    if method == MATCHING:
        heavy = weight or usual_weight(bank)
        return KeyMaker(_by_embedding(bundle, bank, heavy), by_likeness=True, weight=heavy)
    if method != SCLRE_NAME:
        raise ConfigError(
            f"{bundle.id}: expected a model by matching or SCLRE, whose bank can be corrected, got "
            f"{method!r}"
        )
    if run is None:
        raise ConfigError(
            f"{bundle.id} is by SCLRE: the key of a bank item is a projection that its graph does "
            "not give. Name the run that it was exported from with --run, or train anew with "
            "superbin train --from-review"
        )
    if weight is not None:
        raise ConfigError(f"{bundle.id} is by SCLRE, whose items have no weight; drop --weight")
    return KeyMaker(_by_projection(bundle, run), by_likeness=False)


def usual_weight(bank: ServedBank) -> float:
    """What a reviewed item counts as where nothing is asked for: the more, the denser the bank."""
    trained = sum(item.source != REVIEW for item in bank.items)
    return round(min(MOST_WEIGHT, max(1.0, trained / ITEMS_FOR_ONE)), 1)


def _by_embedding(
    bundle: Bundle, bank: ServedBank, weight: float
) -> Callable[[Pixels, Indices], tuple[Floats, Floats]]:
    variant = FP32 if FP32 in bundle.manifest.variants else None  # as the bank was made
    classifier = Classifier(bundle, variant=variant)
    superclasses = len(bundle.manifest.superclasses)
    if bank.values.shape[1] != superclasses:
        raise ConfigError(
            f"{bundle.id}: expected bank values of {superclasses} superclasses, as matching has "
            f"them, got {bank.values.shape[1]} numbers"
        )

    def make(pixels: Pixels, labels: Indices) -> tuple[Floats, Floats]:
        keys = [classifier.run(pixels[i : i + 1]).embedding for i in range(len(pixels))]
        none = np.empty((0, bank.keys.shape[1]), dtype=np.float32)
        values = np.eye(superclasses, dtype=np.float32)[labels] * np.float32(weight)
        return np.concatenate([none, *keys]), values

    return make


def _by_projection(bundle: Bundle, run: Path) -> Callable[[Pixels, Indices], tuple[Floats, Floats]]:
    model, _ = checkpoint.load_model(run)
    head = cast(SCLRE, model.head)
    own = graph_bank(bundle)[contract.INPUT_BANK_KEYS]
    theirs = head.bank_keys.numpy() if isinstance(head, SCLRE) and head.has_bank else None
    if theirs is None or theirs.shape != own.shape or np.abs(theirs - own).max() > TOLERANCE:
        raise RunError(f"{run} is not the run that {bundle.id} was exported from: another bank")

    def make(pixels: Pixels, labels: Indices) -> tuple[Floats, Floats]:
        with torch.no_grad():
            features = extract_features(model, pixels, "cpu", label="corrections")
            keys, values = head.attention.remember(head.projection(features))
        return keys.numpy(), values.numpy()

    return make
