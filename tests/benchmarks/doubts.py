"""What it takes to doubt: measures of a photo's pixels, and its likeness to the bank.

Warm, and as in the service: after a run of the model, which leaves neither the code nor the photo
in the processor's caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import typer

from service.bundle import read_bundle
from service.classifier import Classifier
from service.familiarity import read_familiarity
from service.preprocess import decode
from service.quality import QualityLimits, measure, unproven
from tests.integration.server import ROOT

RUNS = 1000


def told(name: str, call: Callable[[], object], between: Callable[[], object] = int) -> None:
    """Median and least of some runs, in milliseconds; `between` them something else is done."""
    seconds = []
    for _ in range(RUNS):
        between()
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    print(f"{name}: median {1000 * np.median(seconds):.3f} ms, least {1000 * min(seconds):.3f} ms")


def main() -> None:
    bundle = read_bundle(ROOT / "models" / "refuse" / "2")
    familiarity = read_familiarity(bundle)
    assert familiarity is not None
    photo = (ROOT / "tests" / "photos" / "metal.jpg").read_bytes()
    pixels = decode(photo, bundle.manifest.preprocessing)
    classifier = Classifier(bundle, threads=1)
    embedding = classifier.run(pixels[np.newaxis]).embedding
    own = bundle.manifest.quality
    assert own is not None
    limits = QualityLimits(
        own.least_light, own.most_clipped, own.least_sharpness, own.least_contrast
    )
    told("quality of a photo, proved by some rows", lambda: unproven([pixels], limits))
    pair = np.stack([pixels, pixels])
    told("that of two together", lambda: unproven(pair, limits))  # as the service looks at them
    told("after a run of the model", lambda: unproven(pair, limits), lambda: classifier.run(pair))
    told("quality of a photo, measured", lambda: measure(pixels))
    items = len(bundle.manifest.bank.items)
    told("its likeness, proved by groups", lambda: familiarity.surely(embedding, -0.9))
    told(f"its likeness to {items} items", lambda: familiarity.of(embedding))


if __name__ == "__main__":
    typer.run(main)
