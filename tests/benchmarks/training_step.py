"""What a training step costs: SCLRE's against cross-entropy's, and what feeding it adds.

The same network and batch, in turns within one run. `repeated`: one batch again and again, forward,
losses, backward, update. `fed`: the whole step of `superbin train`, with sampling, fetching and
augmentation. `compiled`: cross-entropy's with `train.compile`, where that is asked for. The photos
are noise. On a GPU it is said in what share of the time it runs anything (nvidia-smi; of several
GPUs the busiest), over as many steps as fill some seconds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.benchmarks.gpu import busiest, busy, wait_for
from training.config import Config
from training.data.photos import PhotoSet, read_photos
from training.device import keep_freed_memory, pick_device
from training.fit import draw_batch, learn, train_step
from training.records import load_config
from training.run import Run

METHODS = ("cross_entropy", "sclre", "supcon", "simclr", "moco")
WARM_UP = 2
BUSY_S = 5.0  # nvidia-smi looks a few times a second


def main() -> None:
    options = _options()
    keep_freed_memory()
    device = pick_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        photos = _photos(Path(folder), options.cache_px)
        asked = {name: [f"method={name}"] for name in METHODS}
        if options.compile:
            asked["compiled"] = [f"method={METHODS[0]}", "train.compile=true"]
        runs = {
            name: Run(_config(settings, options), photos, _folder(folder, name), device)
            for name, settings in asked.items()
        }
        ways: dict[str, Callable[[], object]] = {}
        for name, run in runs.items():
            batch = draw_batch(run)
            ways[f"{name}, repeated"] = lambda run=run, batch=batch: learn(run, *batch)  # type: ignore[misc]
        for name in METHODS[:2]:
            ways[f"{name}, fed"] = lambda run=runs[name]: train_step(run)  # type: ignore[misc]
        times = _in_turns(ways, options.rounds, options.steps, device)
        shares = {name: _share_busy(way, device) for name, way in ways.items()}
    base = f"{options.backbone} ({options.stem} stem), {options.px} px, batch {options.batch}"
    print(f"{base}, {device}: median of {options.rounds} rounds of {options.steps} steps, in turns")
    for name, values in times.items():
        to_plain = _ratio(values, times["cross_entropy, repeated"])
        own = times[f"{name.partition(',')[0]}, repeated"]
        fed = f", {_ratio(values, own):.3f} x repeated" if name.endswith("fed") else ""
        used = "" if math.isnan(shares[name]) else f", GPU busy {shares[name]:.1%}"
        step_ms = 1000 * statistics.median(values)
        print(f"{name:24} {step_ms:8.1f} ms a step, {to_plain:.3f} x cross-entropy{fed}{used}")


def _ratio(values: list[float], base: list[float]) -> float:
    """The median of the rounds' ratios: neighbours in time, so that a slow minute hits both."""
    return statistics.median(v / b for v, b in zip(values, base, strict=True))


def _in_turns(
    ways: dict[str, Callable[[], object]], rounds: int, steps: int, device: str
) -> dict[str, list[float]]:
    for way in ways.values():
        for _ in range(WARM_UP):
            way()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        order = list(ways) if turn % 2 == 0 else list(reversed(ways))
        for name in order:
            wait_for(device)
            started = time.perf_counter()
            for _ in range(steps):
                ways[name]()
            wait_for(device)
            times[name].append((time.perf_counter() - started) / steps)
    return times


def _share_busy(way: Callable[[], object], device: str) -> float:
    """Of the time of a way's steps, in which the GPU ran anything; nan on a CPU."""
    if not device.startswith("cuda"):
        return math.nan
    with busy(device) as shares:
        end = time.perf_counter() + BUSY_S
        while time.perf_counter() < end:
            way()
        wait_for(device)
    return busiest(shares)


def _folder(parent: str, name: str) -> Path:
    folder = Path(parent) / name
    folder.mkdir()
    return folder


def _config(asked: list[str], options: argparse.Namespace) -> Config:
    settings = [
        *(f"backbone.name={options.backbone}", f"backbone.stem={options.stem}"),
        *(f"data.px={options.px}", f"data.cache_px={options.cache_px}"),
        f"train.batch={options.batch}",
    ]
    return load_config("cifar", [*asked, *settings])


def _photos(folder: Path, side: int) -> PhotoSet:
    """Enough for the sampler; what they show costs nothing."""
    random = np.random.default_rng(0)
    lines = ["path,superclass,split"]
    for place in range(4 * 40):
        file = folder / f"{place}.jpg"
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file)
        split = "val" if place % 40 == 0 else "train"
        lines.append(f"{file.name},class-{place // 40},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_photos(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--stem", default="cifar", choices=("cifar", "imagenet"))
    parser.add_argument("--px", type=int, default=32)
    parser.add_argument("--cache-px", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="cross-entropy's step compiled, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
