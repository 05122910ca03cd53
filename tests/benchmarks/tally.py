"""What it costs the event loop to count an answer, and a write of the counts.

python -m tests.benchmarks.tally
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import typer

from service.composition.store import CompositionStore
from service.composition.tally import Tally
from service.tags import Tags
from tests.composition import MODEL, answered, sorting

PHOTOS = 200_000
ROUNDS = 5


def count_us() -> float:
    """Microseconds for an answer, the least of some rounds: 16 cameras in turns."""
    tally = Tally(64, 20_000)
    answer = answered(sorting())
    tags = [Tags("tiny", str(n // 4), str(n % 4)) for n in range(16)]
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for photo in range(PHOTOS):
            tally.count(answer, tags[photo % 16], MODEL)
        best = min(best, time.perf_counter() - began)
    return 1e6 * best / PHOTOS


def write_ms(keys: int) -> float:
    """Milliseconds to add a batch of so many keys to SQLite, the least of some rounds."""
    best = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        store = CompositionStore(f"sqlite:///{Path(folder)}/counts.db")
        tally = Tally(keys, keys)
        for _ in range(ROUNDS):
            for line in range(keys):
                tally.count(answered(sorting()), Tags("tiny", str(line)), MODEL)
            batch = tally.take()
            assert batch is not None
            began = time.perf_counter()
            store.add("w", batch)
            best = min(best, time.perf_counter() - began)
            tally.wrote()
        store.close()
    return 1e3 * best


def main() -> None:
    """See the module."""
    print(f"an answer is counted in {count_us():.1f} µs")
    for keys in (10, 1000):
        print(f"{keys} counts are written in {write_ms(keys):.1f} ms, on a thread")


if __name__ == "__main__":
    typer.run(main)
