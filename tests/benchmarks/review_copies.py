"""Does the copy that is kept for review get the answer that the photo got?

    python -m tests.benchmarks.review_copies MODEL DIR

Classifies every test photo of a folder with `labels.csv`, and its copy as the review store has it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer

from service.bundle import read_bundle
from service.classifier import Classifier
from service.preprocess import decode
from service.review.cleaning import clean
from service.review.records import Rules
from training.data.photos import photo_bytes, read_photos


def main(model: Path, folder: Path) -> None:
    """Print how often both answers are the same, and how far apart the probabilities are."""
    classifier = Classifier(read_bundle(model))
    spec = classifier.bundle.manifest.preprocessing
    same, differences, before, after = 0, [], 0, 0
    photos = read_photos(folder).split("test")
    for photo in photos:
        data = photo_bytes(folder, photo)
        copy = clean(data, Rules())
        pixels = np.stack([decode(data, spec), decode(copy.data, spec)])
        original, kept = classifier.run(pixels).probabilities
        same += int(original.argmax() == kept.argmax())
        differences.append(float(np.abs(original - kept).max()))
        before, after = before + len(data), after + len(copy.data)
    print(f"{same} of {len(photos)} copies get the photo's answer ({same / len(photos):.2%})")
    print(f"largest difference in a probability: median {np.median(differences):.4f}")
    print(f"bytes a photo: {before / len(photos):,.0f}, copy {after / len(photos):,.0f}")


if __name__ == "__main__":
    typer.run(main)
