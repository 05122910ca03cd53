"""The training loop: one for every method, on a CPU or a GPU, in one process or several.

All that is random in a step is drawn from (seed, step), so that a run which is stopped and resumed
ends with the weights of one that was not, and several processes take their shares of one batch.
"""

from __future__ import annotations

import copy
import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from service.interruption import stop_requested
from training import checkpoint, distributed
from training.augment import augment
from training.bank import choose_bank, fill_chosen_bank
from training.batchnorm import average_statistics
from training.config import Config
from training.data.photos import PhotoSet
from training.data.sampling import MOMENTS
from training.errors import RunError
from training.figures import save_picture
from training.geometry import geometry
from training.history import draw_history
from training.interruption import Interrupted
from training.methods.matching import Matching
from training.metrics import balanced_accuracy
from training.model import SuperclassModel
from training.optimise import image_size, learning_rate_factor, update_average
from training.predict import answer_all, extract_features
from training.progress import track
from training.run import Run
from training.serviceable import NEAR_CHANCE
from training.words import guide_warning

LOOK = 20  # steps of a GPU, which would have to wait at each of them


def fit(config: Config, data: PhotoSet, out: Path, *, device: str, resume: bool = False) -> None:
    """Train, and leave the chosen model with its context bank in `out/model.pt`.

    A run that is resumed before its first checkpoint begins at the beginning.

    Raises:
        Interrupted: after SIGINT or SIGTERM, with everything saved.
        RunError: where the folder already holds a run, or the loss is no longer a number.
    """
    run = Run(config, data, out, device)
    state = distributed.from_first(partial(_state_before, out, resume))
    if state is not None:
        run.load(state)
    with stop_requested() as stop:
        _steps(run, stop)
    distributed.from_first(partial(finish, run))


def _state_before(out: Path, resume: bool) -> dict[str, Any] | None:
    file = out / checkpoint.CHECKPOINT
    if not file.exists():
        return None
    if not resume:
        raise RunError(f"{out} already holds a run; add --resume to go on, or name another folder")
    return checkpoint.load(file)


def _steps(run: Run, stop: list[int]) -> None:
    """From the current step to the last; the first process evaluates and saves."""
    saved, first = time.monotonic(), distributed.rank() == 0
    period = run.config.train.checkpoint_minutes * 60
    every = 1 if run.device == "cpu" else LOOK
    with track(run.config.name, run.steps, run.progress.step) as advance:
        while run.progress.step < run.steps:
            parts = train_step(run)
            run.progress.step += 1
            advance(1)
            ends = run.progress.step % run.steps_an_epoch == 0 or run.progress.step == run.steps
            if ends or run.progress.step % every == 0:
                figures = read_figures(run, parts)
                if ends and first:
                    end_epoch(run, figures)
            if distributed.any_of(bool(stop)):
                read_figures(run, parts)
                distributed.from_first(partial(_save, run))
                raise Interrupted(f"stopped at step {run.progress.step} of {run.steps}")
            if first and time.monotonic() - saved >= period:
                read_figures(run, parts)
                _save(run)
                saved = time.monotonic()
    distributed.from_first(partial(_save, run))


def _save(run: Run) -> None:
    checkpoint.save(run.out / checkpoint.CHECKPOINT, run.state())


def read_figures(run: Run, parts: dict[str, Tensor]) -> dict[str, float]:
    """A step's losses and its gradient's norm; on a GPU this waits until the step is done.

    Raises:
        RunError: where the loss is no longer a number.
    """
    values = torch.stack([value.float() for value in parts.values()]).tolist()
    figures = dict(zip(parts, values, strict=True))
    if not math.isfinite(figures["loss"]):
        raise RunError(
            f"the loss became {figures['loss']} at step {run.progress.step}; lower train.lr"
        )
    return figures


def train_step(run: Run) -> dict[str, Tensor]:
    """One batch, drawn and learned from, as `learn` does."""
    torch.manual_seed(
        run.config.seed * MOMENTS + run.progress.step
    )  # for stochastic depth and heads
    return learn(run, *draw_batch(run))


def draw_batch(run: Run) -> tuple[Tensor, Tensor]:
    """The photos of a step, this process's share of them, augmented: images, and labels of all.

    Returns:
        float32 [views * n, px, px, 3] in 0..255, and int64 [views * batch].
    """
    config, step = run.config, run.progress.step
    random = torch.Generator().manual_seed(config.seed * MOMENTS + step)
    rows = run.sampler.batch(step)
    pixels = run.pixels(rows[run.share])
    labels = torch.from_numpy(run.targets[rows]).to(run.device, non_blocking=True)
    px, views = image_size(config, step / run.steps), run.model.method.views
    images = torch.cat([augment(pixels, px, config.augment, random) for _ in range(views)])
    return images, labels.repeat(views)


def learn(run: Run, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Losses, clip, update, average; gives the losses and the gradient's norm, on the device.

    On a GPU it returns when all of it is queued, so that the next step can be prepared meanwhile.
    """
    config, step = run.config, run.progress.step
    for group in run.optimiser.param_groups:
        group["lr"] = group["peak_lr"] * learning_rate_factor(step, run.steps, config.train.warm_up)
    run.model.train()
    losses = run.parallel_model(images, labels)
    run.optimiser.zero_grad(set_to_none=True)
    losses["loss"].backward()
    trained = [p for group in run.optimiser.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, config.train.clip_norm)
    run.optimiser.step()
    average_statistics(run.model.backbone)
    if run.average is not None:
        update_average(run.average, run.model, config.train.ema, step)
    return {name: value.detach() for name, value in {**losses, "gradient_norm": norm}.items()}


def end_epoch(run: Run, parts: dict[str, float]) -> None:
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
            f"guessing has {chance:.1%}. {_advice(run.config)}",
            flush=True,
        )


def _advice(config: Config) -> str:
    more = "give it some hundred steps (train.epochs, a smaller train.batch)"
    if config.method != "sclre":
        return f"If it was stopped short, {more}"
    return f"SCLRE begins slowly: {more}; method = cross_entropy tells sooner what is in the data"


def quick_bank(run: Run, model: SuperclassModel) -> None:
    """A random bank of the configured size, good enough to compare epochs by; all, where asked."""
    if not model.method.has_bank:
        return
    labels = run.bank_labels
    nowhere = np.zeros((len(labels), 1), dtype=np.float32)  # chosen at random, z plays no part
    rule = "all" if run.config.bank.selection == "all" else "random"
    rows = choose_bank(nowhere, labels, run.config.bank.size, rule)
    features = extract_features(model, run.bank_store.pixels[rows], run.device, label="bank")
    model.method.fill_bank(features, torch.from_numpy(labels[rows]).to(run.device))


def finish(run: Run) -> None:
    """Choose the bank from the whole training split, with the best weights, and write them."""
    _warn_of_chance(run)
    assert run.progress.best is not None  # the last step always ends an epoch
    model = run.served_model
    model.method.resize_bank(len(run.progress.best.get("head.bank_keys", ())))
    model.load_state_dict(run.progress.best)
    bank: list[dict[str, Any]] = []
    if model.method.has_bank:
        pixels = run.bank_store.pixels
        features = extract_features(model, pixels, run.device, label="choosing the bank")
        rows = fill_chosen_bank(model, features, run.bank_labels, run.config)
        bank = [run.bank_store.photos[i].label() for i in rows]
        guide = model.head.guide if isinstance(model.head, Matching) else None
        if guide is not None and (told := guide_warning(guide, features, run.bank_labels)):
            print(told, flush=True)
    others = run.background
    if others is not None and isinstance(model.head, Matching):
        if not isinstance(others, Tensor):
            others = extract_features(model, others.pixels, run.device, label="background")
        model.head.fill_background(others.to(run.device))
    state = {
        "weights": model.state_dict(),
        "superclasses": list(run.data.superclasses),
        "bank": bank,
        "things": run.things,
        "val_score": run.progress.best_score,
        "steps": run.steps,
    }
    checkpoint.save(run.out / checkpoint.MODEL, state)
    save_picture(draw_history(run.progress.history), run.out / checkpoint.PICTURE)
