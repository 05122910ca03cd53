"""Images a second of a bundle's variants, in turns within one run."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np

from service.bundle import read_bundle
from service.classifier import Classifier

ROUNDS = 15
ROUND_PHOTOS = 32
BATCHES = (1, 8)


def main(path: Path) -> None:
    bundle = read_bundle(path)
    spec = bundle.manifest.preprocessing
    shape = (ROUND_PHOTOS, spec.height, spec.width, 3)
    photos = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sessions = {name: Classifier(bundle, variant=name) for name in bundle.manifest.variants}
    for session in sessions.values():
        for batch in BATCHES:
            session.time_batch(batch)
    print(f"{bundle.id}, median of {ROUNDS} rounds of {ROUND_PHOTOS} photos, in turns")
    for batch in BATCHES:
        rates: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(ROUNDS):
            for name, session in sessions.items():
                started = time.perf_counter()
                for first in range(0, ROUND_PHOTOS, batch):
                    session.run(photos[first : first + batch])
                rates[name].append(ROUND_PHOTOS / (time.perf_counter() - started))
        base = statistics.median(rates["fp32"])
        for name, values in rates.items():
            median = statistics.median(values)
            print(f"batch {batch}: {name:5} {median:7.1f} images/s, {median / base:.2f} x fp32")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models/refuse/2"))
