"""How busy the scheduler keeps a device: one that only sleeps, for a * n + b seconds a batch.

Photos are there already, so that neither decoding nor HTTP counts. One thread a session lets the
device rest while answers are handed over and the next batch is gathered; two need not.

    python -m tests.benchmarks.scheduler --photo-ms 0.04 --batch-ms 2
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import typer

from service.batching import Scheduler
from service.classifier import Answers
from service.cost import CostModel
from service.metrics import Metrics
from service.preprocess import Pixels

SIDE, LARGEST = 256, 64
CLIENTS, PHOTOS = 32, 16  # of each client's requests
DEADLINE_S = 60.0


@dataclass
class Device:
    """Runs one batch after the other, whoever brings it."""

    photo_s: float
    batch_s: float
    busy_s: float = 0.0
    sizes: list[int] = field(default_factory=list)
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def run(self, images: Pixels) -> Answers:
        photos = len(images)
        with self._alone:
            started = time.perf_counter()
            time.sleep(self.seconds(photos))
            self.busy_s += time.perf_counter() - started
            self.sizes.append(photos)
        none = np.zeros((photos, 5), dtype=np.float32)
        return Answers(none, none, none.astype(np.int64), none, none[:, 0])

    def seconds(self, photos: int) -> float:
        return self.batch_s + self.photo_s * photos


async def measure(device: Device, threads: int, seconds: float) -> tuple[float, float]:
    """Photos a second, and the share of the time in which the device ran."""
    sizes = [2**i for i in range(LARGEST.bit_length())]
    scheduler = Scheduler(
        [device.run] * threads,
        decode_workers=1,
        max_batch=LARGEST,
        metrics=Metrics(),
        cost=CostModel([(size, device.seconds(size)) for size in sizes]),
    )
    pixels = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    answered, started = 0, time.perf_counter()

    async def ask(client: int) -> None:
        nonlocal answered
        while time.perf_counter() - started < seconds:
            loads = [lambda: pixels] * PHOTOS
            with scheduler.submitted(loads, client=str(client), timeout_s=DEADLINE_S) as outcomes:
                await asyncio.gather(*outcomes)
            answered += PHOTOS

    await asyncio.gather(*map(ask, range(CLIENTS)))
    took = time.perf_counter() - started
    await scheduler.close()
    return answered / took, device.busy_s / took


def main(
    photo_ms: float = 0.04, batch_ms: float = 2.0, rounds: int = 5, seconds: float = 3.0
) -> None:
    """How busy the scheduler keeps a device that only sleeps."""
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: [], 3: []}
    sizes: dict[int, list[int]] = {threads: [] for threads in found}
    for _ in range(rounds):
        for threads, results in found.items():
            device = Device(photo_ms / 1000, batch_ms / 1000)
            results.append(asyncio.run(measure(device, threads, seconds)))
            sizes[threads] += device.sizes
    base = statistics.median(rate for rate, _ in found[1])
    for threads, results in found.items():
        rate, busy = (statistics.median(values) for values in zip(*results, strict=True))
        print(
            f"{threads} threads: {rate:7.0f} photos/s, {rate / base:.2f} x one thread's; "
            f"device busy {busy:.0%}; {statistics.mean(sizes[threads]):.1f} photos a batch"
        )


if __name__ == "__main__":
    typer.run(main)
