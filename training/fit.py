"""The training loop: one for every method, on a CPU or one GPU.

All that is random in a step is drawn from (seed, step), so that a run which is stopped and resumed
ends with the weights of one that was not.
"""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from training import checkpoint
from training.augment import augment
from training.bank import choose_bank, fill_chosen_bank
from training.config import Config
from training.data.photos import PhotoSet, label_indices
from training.data.sampling import BalancedSampler
from training.data.store import PixelStore, open_store
from training.errors import DataError, RunError
from training.figures import save_picture
from training.geometry import geometry
from training.history import draw_history
from training.metrics import balanced_accuracy
from training.model import SuperclassModel
from training.optimise import (
    build_optimiser,
    image_size,
    learning_rate_factor,
    update_average,
)
from training.predict import answer_all, extract_features
from training.progress import track
from training.subclasses import first_stage_subclasses

NAMED = 3  # bad photos on the terminal; all of them are in the file
MOMENTS = 1 << 32  # keeps the streams of seed and step apart


class Interrupted(Exception):
    """Training was asked to stop, and has saved where it was."""


@dataclass
class Progress:
    """Where a run is: counted in steps, never in seconds."""

    step: int = 0
    best_score: float = -1.0
    best: dict[str, Any] | None = None  # weights of the best epoch so far
    history: list[dict[str, Any]] = field(default_factory=list)


NEAR_CHANCE = 1.5  # times the accuracy of guessing


class Run:
    """Everything that one training run holds, built anew from its record and its data."""

    def __init__(self, config: Config, data: PhotoSet, out: Path, device: str) -> None:
        self.config, self.data, self.out, self.device = config, data, out, device
        torch.manual_seed(config.seed)
        if device.startswith("cuda"):
            torch.backends.cudnn.benchmark = False
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what determinism needs
        torch.use_deterministic_algorithms(True, warn_only=True)
        self.train_store = self._store("train", served=False)
        self.val_store = self._store("val", served=True)
        self.labels = label_indices(self.train_store.photos, data)
        self.val_labels = label_indices(self.val_store.photos, data)
        # Bank items are photos as the service would see them, not augmented ones.
        self.bank_store = self._store("train", served=True)
        self.bank_labels = label_indices(self.bank_store.photos, data)
        self._check_data()
        self.model = checkpoint.begin_model(config, len(data.superclasses)).to(device)
        self.targets = self.labels  # what the loss is told of each photo
        if config.method == "george":
            pixels = self.bank_store.pixels
            self.targets = first_stage_subclasses(config, data, pixels, self.labels, out, device)
        self.average = copy.deepcopy(self.model) if config.train.ema else None
        self.optimiser = build_optimiser(self.model, config)
        self.sampler = BalancedSampler(self.labels, config.train.batch, config.seed)
        self.steps_an_epoch = max(1, len(self.labels) // config.train.batch)
        self.steps = max(1, round(config.train.epochs * self.steps_an_epoch))
        self.progress = Progress()

    @property
    def served_model(self) -> SuperclassModel:
        """The weights that are evaluated and kept: the average where there is one."""
        return self.average or self.model

    def _store(self, split: str, *, served: bool) -> PixelStore:
        spec = self.config.data.served() if served else self.config.data.cached()
        return open_store(self.data.root, self.data.split(split), spec)

    def _check_data(self) -> None:
        bad = {**self.train_store.bad, **self.val_store.bad}
        if self.data.split("test"):  # nothing but whether they decode is asked of these
            bad |= self._store("test", served=True).bad
        bad |= self.data.unusable()
        checkpoint.write_json(self.out / checkpoint.BAD_PHOTOS, bad)
        if bad:
            names = ", ".join(list(bad)[:NAMED]) + (", ..." if len(bad) > NAMED else "")
            file = self.out / checkpoint.BAD_PHOTOS
            print(f"left out {len(bad)} photos that cannot be used ({file}): {names}", flush=True)
        for name, labels in (("train", self.labels), ("val", self.val_labels)):
            counts = np.bincount(labels, minlength=len(self.data.superclasses))
            if counts.min() == 0:
                empty = self.data.superclasses[int(counts.argmin())]
                raise DataError(f"no photo of {empty} in the {name} split can be decoded")

    def state(self) -> dict[str, Any]:
        """All that the steps so far have changed."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimiser": self.optimiser.state_dict(),
            "progress": vars(self.progress),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        for module, name in ((self.model, "model"), (self.average, "average")):
            if module is not None:
                module.method.resize_bank(len(state[name].get("head.bank_keys", ())))
                module.load_state_dict(state[name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])


def fit(config: Config, data: PhotoSet, out: Path, *, device: str, resume: bool = False) -> None:
    """Train, and leave the chosen model with its context bank in `out/model.pt`.

    A run that is resumed before its first checkpoint begins at the beginning.

    Raises:
        Interrupted: after SIGINT or SIGTERM, with everything saved.
        RunError: where the folder already holds a run, or the loss is no longer a number.
    """
    run = Run(config, data, out, device)
    if resume and (out / checkpoint.CHECKPOINT).exists():
        run.load(checkpoint.load(out / checkpoint.CHECKPOINT))
    elif not resume and (out / checkpoint.CHECKPOINT).exists():
        raise RunError(f"{out} already holds a run; add --resume to go on, or name another folder")
    with _stop_requested() as stop:
        _steps(run, stop)
    _warn_of_chance(run)
    finish(run)


def _steps(run: Run, stop: list[int]) -> None:
    """From the current step to the last."""
    saved = time.monotonic()
    period = run.config.train.checkpoint_minutes * 60
    with track(run.config.name, run.steps, run.progress.step) as advance:
        while run.progress.step < run.steps:
            parts = train_step(run)
            run.progress.step += 1
            advance(1)
            if not math.isfinite(parts["loss"]):
                raise RunError(
                    f"the loss became {parts['loss']} at step {run.progress.step}; lower train.lr"
                )
            if run.progress.step % run.steps_an_epoch == 0 or run.progress.step == run.steps:
                _end_epoch(run, parts)
            if stop or time.monotonic() - saved >= period:
                checkpoint.save(run.out / checkpoint.CHECKPOINT, run.state())
                saved = time.monotonic()
            if stop:
                raise Interrupted(f"stopped at step {run.progress.step} of {run.steps}")
    checkpoint.save(run.out / checkpoint.CHECKPOINT, run.state())


def train_step(run: Run) -> dict[str, float]:
    """One batch: sample, augment, losses, clip, update, average."""
    config, step = run.config, run.progress.step
    torch.manual_seed(config.seed * MOMENTS + step)  # stochastic depth draws from here
    random = torch.Generator().manual_seed(config.seed * MOMENTS + step)
    rows = run.sampler.batch(step)
    pixels = torch.from_numpy(run.train_store.pixels[rows]).to(run.device, non_blocking=True)
    labels = torch.from_numpy(run.targets[rows]).to(run.device, non_blocking=True)
    px, views = image_size(config, step / run.steps), run.model.method.views
    images = torch.cat([augment(pixels, px, config.augment, random) for _ in range(views)])
    for group in run.optimiser.param_groups:
        group["lr"] = group["peak_lr"] * learning_rate_factor(step, run.steps, config.train.warm_up)
    run.model.train()
    losses = run.model.losses(images, labels.repeat(views))
    run.optimiser.zero_grad(set_to_none=True)
    losses["loss"].backward()
    trained = [p for group in run.optimiser.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, config.train.clip_norm)
    run.optimiser.step()
    if run.average is not None:
        update_average(run.average, run.model, config.train.ema, step)
    names, values = [*losses, "gradient_norm"], [*losses.values(), norm]
    return dict(zip(names, torch.stack([v.detach().float() for v in values]).tolist(), strict=True))


def _end_epoch(run: Run, parts: dict[str, float]) -> None:
    """Evaluate on val as the service would answer, and keep the best weights."""
    model = run.served_model
    quick_bank(run, model)
    features = extract_features(model, run.val_store.pixels, run.device, label="val")
    answer = answer_all(model, features, "bank")
    predicted = answer.logits.argmax(dim=1).cpu().numpy()
    accuracy = float((predicted == run.val_labels).mean())
    balanced = balanced_accuracy(predicted, run.val_labels, len(run.data.superclasses))
    score = (accuracy + balanced) / 2
    shape = geometry(answer, torch.from_numpy(run.val_labels).to(run.device))
    scores = {"val_accuracy": accuracy, "val_balanced": balanced}
    line = {"step": run.progress.step, **parts, **scores, **shape}
    run.progress.history.append(line)
    print(
        f"step {run.progress.step}: val accuracy {accuracy:.4f}, balanced {balanced:.4f}",
        flush=True,
    )
    if score >= run.progress.best_score:
        run.progress.best_score = score
        run.progress.best = copy.deepcopy(model.state_dict())
    text = "".join(json.dumps(entry) + "\n" for entry in run.progress.history)
    (run.out / checkpoint.HISTORY).write_text(text, encoding="utf-8")


def _warn_of_chance(run: Run) -> None:
    chance = 1.0 / len(run.data.superclasses)
    best = max((line["val_balanced"] for line in run.progress.history), default=1.0)
    if best < NEAR_CHANCE * chance:
        print(
            f"warning: after {run.progress.step} steps balanced accuracy on val is {best:.1%}, and "
            f"guessing has {chance:.1%}. SCLRE begins slowly: give it some hundred steps "
            "(train.epochs, a smaller train.batch); method = cross_entropy tells sooner what is in "
            "the data",
            flush=True,
        )


def quick_bank(run: Run, model: SuperclassModel) -> None:
    """A random bank of the configured size, good enough to compare epochs by."""
    if not model.method.has_bank:
        return
    labels = run.bank_labels
    nowhere = np.zeros((len(labels), 1), dtype=np.float32)  # chosen at random, z plays no part
    rows = choose_bank(nowhere, labels, run.config.bank.size, "random")
    features = extract_features(model, run.bank_store.pixels[rows], run.device, label="bank")
    model.method.fill_bank(features)


def finish(run: Run) -> None:
    """Choose the bank from the whole training split, with the best weights, and write them."""
    assert run.progress.best is not None  # the last step always ends an epoch
    model = run.served_model
    model.method.resize_bank(len(run.progress.best.get("head.bank_keys", ())))
    model.load_state_dict(run.progress.best)
    bank: list[dict[str, Any]] = []
    if model.method.has_bank:
        pixels = run.bank_store.pixels
        features = extract_features(model, pixels, run.device, label="choosing the bank")
        rows = fill_chosen_bank(model, features, run.bank_labels, run.config)
        bank = [vars(run.bank_store.photos[i]) for i in rows]
    state = {
        "weights": model.state_dict(),
        "superclasses": list(run.data.superclasses),
        "bank": bank,
        "val_score": run.progress.best_score,
        "steps": run.steps,
    }
    checkpoint.save(run.out / checkpoint.MODEL, state)
    save_picture(draw_history(run.progress.history), run.out / checkpoint.PICTURE)


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """A list that a first SIGINT or SIGTERM makes non-empty; a second one acts as usual."""
    received: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        before[number] = signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
