"""Seconds from the start of the process to an accuracy on val, and how well the device is used.

Photos are decoded anew, the network is trained as `superbin train` does it, and val is looked at
after each epoch; at the first that reaches the aim the clock stops. Test is asked once, after that.
The share of the peak is of what a large product of matrices reaches on the same device, just then;
with `--peak` it is of a data sheet's figure, too. On a GPU it is said in what share of the steps'
time it ran anything (nvidia-smi; of several GPUs the busiest).

    python -m tests.benchmarks.time_to_accuracy --data CIFAR --aim 84 --epochs 20
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.gpu import busiest, busy, wait_for
from training import checkpoint
from training.config import Config
from training.data.folds import read_photos_as
from training.data.photos import PhotoSet, label_indices
from training.data.store import open_split
from training.device import keep_freed_memory, pick_device
from training.fit import end_epoch, finish, read_figures, train_step
from training.metrics import balanced_accuracy
from training.predict import answer_all, extract_features
from training.records import load_config
from training.run import Run

PRODUCTS = 20  # of matrices, of which the fastest counts
SIDE = {"cpu": 2048, "cuda": 8192}
COUNTED = 8  # photos of the batch whose operations are counted


def main() -> None:
    options = _options()
    device = pick_device(options.device)
    keep_freed_memory()
    settings = [f"train.epochs={options.epochs}", *(options.set or ())]
    config = load_config("cifar", settings)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # nothing is decoded yet
        photos = read_photos_as(options.data, config, options.superclasses)
        reached = _train(config, photos, Path(folder), device, options)
    sys.exit(0 if reached else 1)


def _train(
    config: Config, photos: PhotoSet, folder: Path, device: str, options: argparse.Namespace
) -> bool:
    run = Run(config, photos, folder, device)
    told = f"{config.backbone.name} ({config.backbone.stem} stem), {config.method}"
    print(f"{told}, {config.data.px} px, batch {config.train.batch}: {checkpoint.hardware(device)}")
    begun_s = since_start()
    steps_s, reached = 0.0, False
    shares: list[float] = []
    while run.progress.step < run.steps and not reached:
        with busy(device) as of_each:
            started = time.perf_counter()
            for _ in range(min(run.steps_an_epoch, run.steps - run.progress.step)):
                parts = train_step(run)
                run.progress.step += 1
            figures = read_figures(run, parts)
            steps_s += time.perf_counter() - started
        shares.append(busiest(of_each))
        end_epoch(run, figures)
        best = max(line["val_accuracy"] for line in run.progress.history)
        reached = 100 * best >= options.aim
    took_s = since_start()
    finish(run)
    print(
        f"{f'{options.aim:g}%' if reached else f'best, {100 * best:.1f}%,'} of val after "
        f"{took_s:.1f} s: start and decoding {begun_s:.1f}, {run.progress.step} steps of "
        f"{run.steps} {steps_s:.1f}, val {took_s - begun_s - steps_s:.1f}"
    )
    if known := [share for share in shares if not math.isnan(share)]:
        print(f"the GPU was busy in {statistics.mean(known):.1%} of the steps' time")
    _print_test(run)
    _print_use(run, run.progress.step * config.train.batch / steps_s, options.peak)
    return reached


def _print_test(run: Run) -> None:
    store = open_split(run.data, "test", run.config.data.served())
    labels = label_indices(store.photos, run.data)
    features = extract_features(run.served_model, store.pixels, run.device, label="test")
    logits = answer_all(run.served_model, features, "bank").logits
    predicted = logits.argmax(dim=1).cpu().numpy()
    balanced = balanced_accuracy(predicted, labels, len(run.data.superclasses))
    print(f"test {100 * (predicted == labels).mean():.2f}%, balanced {100 * balanced:.2f}%")


def _print_use(run: Run, rate: float, peak: float | None) -> None:
    flop = operations(run.config, len(run.data.superclasses))
    dtype = torch.bfloat16 if run.config.train.precision == "bf16" else torch.float32
    reachable = product_rate(run.device, dtype)
    used = rate * flop
    print(
        f"{rate:.0f} images/s of {flop / 1e9:.2f} GFLOP, forward and backward: "
        f"{used / 1e12:.3f} TFLOP/s, {used / reachable:.1%} of {reachable / 1e12:.2f}, which a "
        f"product of matrices reaches in {run.config.train.precision}"
        + (f", {used / (1e12 * peak):.1%} of {peak:g}" if peak else "")
    )


def operations(config: Config, superclasses: int) -> float:
    """Of a step for one image, forward and backward; a multiplication and an addition are two."""
    plain = config.model_copy(
        update={"train": config.train.model_copy(update={"precision": "fp32"})}
    )
    model = checkpoint.begin_model(plain, superclasses).train()
    images = torch.rand(COUNTED * model.method.views, config.data.px, config.data.px, 3)
    labels = torch.arange(COUNTED).remainder(superclasses).repeat(model.method.views)
    counter = FlopCounterMode(display=False)
    with counter:
        model(images, labels)["loss"].backward()
    return counter.get_total_flops() / COUNTED


def product_rate(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a product of large matrices."""
    side = SIDE[device.partition(":")[0]]
    left, right = (torch.rand(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        torch.mm(left, right)
        wait_for(device)

    product()
    return float(2 * side**3 / min(_seconds(product) for _ in range(PRODUCTS)))


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def since_start() -> float:
    """Seconds since this process was started, imports and all (Linux)."""
    started = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return now - int(started) / os.sysconf("SC_CLK_TCK")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--superclasses", type=Path, default=Path("cifar100-4"))
    parser.add_argument("--aim", type=float, default=84.0, help="per cent of val that is right")
    parser.add_argument("--epochs", type=float, default=20, help="of the whole schedule")
    parser.add_argument("--set", action="append", help="of the record cifar, as superbin train has")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--peak", type=float, help="TFLOP/s of a data sheet")
    return parser.parse_args()


if __name__ == "__main__":
    main()
