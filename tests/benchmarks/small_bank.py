"""What a sorting guide's words cost and bring in banks of fewer photos, by how they are weighed.

    python -m tests.benchmarks.small_bank DATA OUT [RECORD]

The record is unseen-words, or one like it such as unseen-guided.
On frozen features, as `superbin unseen` has them. Accuracy on val by a bank of some train photos,
drawn at random, and balanced accuracy on the kinds that each fold of `refuse-tune` holds out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from training.data.folds import UNSEEN, hold_out, read_folds, read_photos_as
from training.data.photos import PhotoSet, label_indices
from training.methods.matching import LIKE_ITEMS, Matching
from training.metrics import balanced_accuracy
from training.records import load_config
from training.unseen import features_of, train_head

SHARES = (0.05, 0.1, 0.3, 1.0)
DRAWS = 3
WAYS = ("without words", "by the bank's size", "the same")


def main(root: Path, out: Path, record: Annotated[str, typer.Argument()] = "unseen-words") -> None:
    """What words cost and bring in banks of fewer photos."""
    out.mkdir(parents=True, exist_ok=True)
    config, folds = load_config(record), read_folds("refuse-tune")
    data = read_photos_as(root, config)
    features, places = features_of(config, data, out, "cpu")

    def part(held: PhotoSet, split: str) -> tuple[torch.Tensor, Any]:
        photos = [photo for photo in held.split(split) if photo.path in places]
        rows = torch.tensor([places[photo.path] for photo in photos])
        return features[rows], label_indices(photos, held)

    def answers(held: PhotoSet, share: float, split: str, random: Any) -> tuple[Any, Any]:
        x, labels = part(held, "train")
        some = random.permutation(len(labels))[: round(share * len(labels))]
        head = train_head(config, x[some], labels[some], held.superclasses, 0).method
        assert isinstance(head, Matching)
        assert head.guide is not None
        asked, right = part(held, split)
        with torch.no_grad():
            bank, own = head.log_weights(asked), head.guide(asked).probabilities.log()
        grown = math.log(LIKE_ITEMS / len(some))
        weights = (-math.inf, head.own_log_weight, head.own_log_weight + grown)
        return [torch.logaddexp(bank, own + w).argmax(dim=1).numpy() for w in weights], right

    for share in SHARES:
        val, unseen = [], []
        for draw in range(DRAWS if share < 1 else 1):
            random = np.random.default_rng(draw)
            found, right = answers(data, share, "val", random)
            val.append([100 * (one == right).mean() for one in found])
            for fold in folds.held_out:
                found, right = answers(hold_out(data, folds, fold), share, UNSEEN, random)
                unseen.append([100 * balanced_accuracy(one, right, 4) for one in found])
        for name, *pair in zip(WAYS, np.mean(val, axis=0), np.mean(unseen, axis=0), strict=True):
            print(f"{share:.0%} | {name} | val {pair[0]:.1f} | unseen kinds {pair[1]:.1f}")


if __name__ == "__main__":
    typer.run(main)
