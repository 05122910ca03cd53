"""Images a second of a bundle's variants, in turns within one run."""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from service.bundle import read_bundle
from service.classifier import Classifier

ROUNDS = 15
LEAST_PHOTOS = 32  # of a round


def main(path: Path, device: str, batches: list[int], staged: bool) -> None:
    bundle = read_bundle(path)
    round_photos = max(LEAST_PHOTOS, *batches)
    spec = bundle.manifest.preprocessing
    shape = (round_photos, spec.height, spec.width, 3)
    photos = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sessions = {
        name: Classifier(bundle, variant=name, device=device) for name in bundle.manifest.variants
    }
    for session in sessions.values():
        for batch in batches:
            session.time_batch(batch)
    if staged:
        for name in bundle.manifest.variants:
            session = Classifier(bundle, variant=name, device=device)
            session.keep_to(batches)
            sessions[f"{name}, staged"] = session
    print(f"{bundle.id} on {device}, median of {ROUNDS} rounds of {round_photos} photos, in turns")
    for batch in batches:
        rates: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(ROUNDS):
            for name, session in sessions.items():
                started = time.perf_counter()
                whole = round_photos - round_photos % batch
                for first in range(0, whole, batch):
                    session.run(photos[first : first + batch])
                rates[name].append(whole / (time.perf_counter() - started))
        base = statistics.median(rates["fp32"])
        for name, values in rates.items():
            median = statistics.median(values)
            print(f"batch {batch}: {name:12} {median:7.1f} images/s, {median / base:.2f} x fp32")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("models/refuse/4"))
    parser.add_argument("--device", default="cpu", help="cpu, cuda:I or tensorrt:I")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument(
        "--staged", action="store_true", help="also by way of memory that the GPU copies by itself"
    )
    asked = parser.parse_args()
    main(asked.bundle, asked.device, asked.batch, asked.staged)
