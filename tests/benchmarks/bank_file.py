"""What a bank in a file of its own costs a photo: the same bundle with and without, in turns.

python -m tests.benchmarks.bank_file models/refuse/2
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from service.bank import BANK, write_bank
from service.bundle import read_bundle, record_of, write_manifest
from service.classifier import Classifier
from training.served_bank import served_bank

ROUNDS = 200
TIMES = (1, 2)  # the bank once and twice over: what more items cost


def main(path: Annotated[Path, typer.Argument()] = Path("models/refuse/2")) -> None:
    """What a bank in a file of its own costs a photo."""
    bundle = read_bundle(path)
    spec = bundle.manifest.preprocessing
    photo = np.random.default_rng(0).integers(0, 256, (1, spec.height, spec.width, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        sessions = {"the graph's": Classifier(bundle, threads=1)}
        for times in TIMES:
            copy = Path(folder) / str(times)
            shutil.copytree(path, copy)
            give_bank(copy, times)
            items = len(bundle.manifest.bank.items) * times
            sessions[f"a file of {items} items"] = Classifier(read_bundle(copy), threads=1)
    for session in sessions.values():
        session.time_batch(1)
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            started = time.perf_counter()
            session.run(photo)
            taken[name].append(1000 * (time.perf_counter() - started))
    print(f"{bundle.id}, one photo on one core, {ROUNDS} runs in turns")
    for name, values in taken.items():
        print(f"{name}: median {statistics.median(values):.2f} ms, least {min(values):.2f} ms")


def give_bank(path: Path, times: int) -> None:
    bundle = read_bundle(path)
    manifest, bank = bundle.manifest, served_bank(bundle)
    write_bank(path / BANK, np.tile(bank.keys, (times, 1)), np.tile(bank.values, (times, 1)))
    update = {"items": bank.items * times, "file": BANK}
    files = manifest.files | {BANK: record_of(path / BANK)}
    corrected = {"bank": manifest.bank.model_copy(update=update), "files": files}
    write_manifest(path, manifest.model_copy(update=corrected))


if __name__ == "__main__":
    typer.run(main)
