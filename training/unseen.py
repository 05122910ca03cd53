"""Methods on kinds that nothing in training was like: heads on frozen features, fold by fold.

Superclasses alone are learned, on the train split without a fold's kinds; what is measured are the
photos of those kinds, all of them, beside the test photos of the kinds that were seen. The backbone
stays as it is (ImageNet's weights), so that a head takes seconds and seeds are cheap; runs that
train the backbone as well are made by `data.hold_out` in a record.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from training.bank import Indices, fill_chosen_bank
from training.calibrate import count_wrong, fit_threshold
from training.checkpoint import begin_model
from training.config import Config
from training.data.folds import UNSEEN, hold_out, read_folds, read_photos_as
from training.data.photos import PhotoSet, label_indices
from training.data.sampling import MOMENTS, BalancedSampler
from training.data.store import open_store, sizes_digest
from training.device import pick_device
from training.errors import ConfigError, DataError
from training.guide import Guide
from training.metrics import balanced_accuracy
from training.model import SuperclassModel, build_model
from training.optimise import build_optimiser, learning_rate_factor
from training.outcome import softmax
from training.predict import answer_all, extract_features
from training.progress import track
from training.records import load_config
from training.unseen_rows import Rows
from training.votes import AND_WORDS, VOTES, WORDED_VOTES, WORDS, Asked, Predict, add_words, vote
from training.words import make_guide, read_words, teach_words, text_of

COVERAGE = 0.4  # share of the photos that an abstaining sorter keeps
ERROR_RATE = 0.01  # of the photos of seen kinds that a sorter sorts, on val
RESULTS = "unseen.json"
HEADS = ("cross_entropy", "sclre", "matching")


def measure_unseen(
    reference: str,
    root: Path,
    out: Path,
    records: list[str],
    overrides: list[str] | None,
    seeds: int,
    superclass_map: Path | None,
    device: str,
    shots: int = 0,
    words: str | None = None,
) -> list[dict[str, Any]]:
    """Measure each record, and the votes, on each fold; writes `unseen.json` to `out`.

    What `out` has of the same settings already is not measured again.

    Args:
        reference: a fold file, or the name of a shipped one.
        records: of which the backbone (untrained), the method and the head's schedule are used.
        seeds: how many; the votes have none.
        shots: photos of each held-out kind that are trained on after all.
        words: a words file, or the name of a shipped one, to be measured alone, with the kernel,
            and with each cross-entropy.

    Returns:
        One row for each record, fold and seed.

    Raises:
        ConfigError: for records that do not share a backbone and what it sees, or a package that
            is not installed.
        DataError: where the data or the folds cannot be used.
    """
    configs = [load_config(record, overrides) for record in records]
    shared = {(c.backbone.model_dump_json(), c.data.model_dump_json()) for c in configs}
    if len(shared) != 1:
        raise ConfigError(
            "expected records with the same [backbone] and [data]: features are computed once"
        )
    if other := [c.method for c in configs if c.method not in HEADS]:
        raise ConfigError(
            f"expected methods of {', '.join(HEADS)}, which can be learned on features that stay "
            f"as they are, got {other[0]}"
        )
    folds = read_folds(reference)
    if configs[0].data.hold_out is not None:
        raise ConfigError("expected records without data.hold_out: each fold holds out its own")
    data = read_photos_as(root, configs[0], superclass_map)
    splits = {fold: hold_out(data, folds, fold, shots) for fold in folds.held_out}
    if untested := [fold for fold, held in splits.items() if not held.split("test")]:
        raise DataError(
            f"{root}: expected photos of kinds that are seen in the test split, got none by fold "
            f"{untested[0]} of {folds.name}; set data.test_fraction where the data name no split"
        )
    told = read_words(words, data.superclasses) if words is not None else None
    out.mkdir(parents=True, exist_ok=True)
    features, places = features_of(configs[0], data, out, pick_device(device))
    rows = Rows(out / RESULTS, folds, data, device)
    jobs = [
        *((name, None, 0) for name in VOTES),
        *((config.name, config, seed) for config in configs for seed in range(seeds)),
    ]
    if told is not None:
        jobs += [(name, None, 0) for name in WORDED_VOTES]
        plain = [config for config in configs if config.method == "cross_entropy"]
        jobs += [(f"{c.name}{AND_WORDS}", c, seed) for c in plain for seed in range(seeds)]
    basis = configs[0].model_dump(mode="json", include={"backbone", "data"})
    k = len(data.superclasses)
    with track(f"folds of {folds.name}", len(jobs) * len(splits)) as advance:
        for fold, held in splits.items():
            asked = _asked(held, features, places)
            guide: Guide | None = None
            if told is not None:
                guide = make_guide(told, configs[0].backbone.name)
                known, labels = asked.train
                guide.fit(asked.as_they_are(known), torch.from_numpy(labels))
            for name, config, seed in jobs:
                settings = config.model_dump(mode="json") if config else dict(basis)
                settings["shots"] = shots
                if told is not None and name.endswith(WORDS):
                    settings["words"] = told.text
                elif config is not None and config.matching.words is not None:
                    settings["words"] = text_of(config.matching.words)
                if not rows.has(name, fold, seed, settings):
                    if config is None:
                        predict = vote(name, asked, k, guide)
                    else:
                        predict = _train_head(config, asked, data.superclasses, seed)
                        if guide is not None and name.endswith(AND_WORDS):
                            predict = add_words(predict, asked, guide)
                    figures = _figures(predict, asked, data.superclasses)
                    rows.add(name, fold, seed, settings, figures)
                advance(1)
    wanted = {(name, seed) for name, _, seed in jobs}  # the file may have more, of other settings
    return [row for row in rows.all if (row["record"], row["seed"]) in wanted]


def features_of(
    config: Config, data: PhotoSet, out: Path, device: str
) -> tuple[Tensor, dict[str, int]]:
    """float32 [n, D] of every photo that decodes, and the row of each path; kept in `out`."""
    store = open_store(data.root, data.photos, config.data.served())
    paths = [photo.path for photo in store.photos]
    made_of = (config.backbone.model_dump_json(), config.data.model_dump_json())
    key = "\n".join([*made_of, sizes_digest(data.root, store.photos), *paths])
    file = out / f"features-{zlib.crc32(key.encode()):08x}.npy"
    if file.is_file():
        found = torch.from_numpy(np.load(file))
    else:
        torch.manual_seed(0)  # for a backbone that is not pretrained
        model = begin_model(config, len(data.superclasses)).to(device)
        found = extract_features(model, store.pixels, device, label="features").cpu()
        part = file.with_suffix(".part")
        with part.open("wb") as stream:
            np.save(stream, found.numpy())
        part.replace(file)
    return found, {path: row for row, path in enumerate(paths)}


def _asked(held: PhotoSet, features: Tensor, places: dict[str, int]) -> Asked:
    """Standardised by the mean and deviation of the train photos."""
    parts = []
    for split in ("train", UNSEEN, "val", "test"):
        photos = tuple(photo for photo in held.split(split) if photo.path in places)
        if not photos:
            raise DataError(f"{held.root}: no photo of the {split} split can be decoded")
        rows = torch.tensor([places[photo.path] for photo in photos])
        parts.append((features[rows], label_indices(photos, held)))
    mean, deviation = parts[0][0].mean(dim=0), parts[0][0].std(dim=0) + 1e-3
    train, unseen, val, seen = (((x - mean) / deviation, labels) for x, labels in parts)
    return Asked(train, unseen, val, seen, mean, deviation)


def _train_head(config: Config, asked: Asked, superclasses: tuple[str, ...], seed: int) -> Predict:
    known, labels = asked.train
    if config.matching.words is None:
        model = train_head(config, known, labels, superclasses, seed)
        return lambda x: softmax(answer_all(model, x, "bank").logits.double().numpy())
    # What a guide says is of features as they are; matching standardises them itself.
    worded = train_head(config, asked.as_they_are(known), labels, superclasses, seed)
    return lambda x: softmax(
        answer_all(worded, asked.as_they_are(x), "bank").logits.double().numpy()
    )


def train_head(
    config: Config, features: Tensor, labels: Indices, superclasses: tuple[str, ...], seed: int
) -> SuperclassModel:
    """The record's method on features [n, D], by the head's part of its schedule."""
    torch.manual_seed(seed)
    frozen = config.model_copy(update={"seed": seed})
    model: SuperclassModel = build_model(frozen, len(superclasses), pretrained=False)
    model.backbone = nn.Identity()
    teach_words(model.method, config, superclasses)
    optimiser = build_optimiser(model, frozen)
    sampler = BalancedSampler(labels, config.train.batch, seed)
    steps = max(1, round(config.train.epochs * len(labels) / config.train.batch))
    model.train()
    for step in range(steps):
        torch.manual_seed(seed * MOMENTS + step)  # for dropout and mixup
        rows = sampler.batch(step)
        for group in optimiser.param_groups:
            factor = learning_rate_factor(step, steps, config.train.warm_up)
            group["lr"] = group["peak_lr"] * factor
        losses = model.method.losses(features[rows], torch.from_numpy(labels[rows]))
        optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.train.clip_norm)
        optimiser.step()
    if model.method.has_bank:
        fill_chosen_bank(model, features, labels, frozen)
    return model.eval()


def _figures(predict: Predict, asked: Asked, superclasses: tuple[str, ...]) -> dict[str, Any]:
    k = len(superclasses)
    unseen, seen = predict(asked.unseen[0]), predict(asked.seen[0])
    threshold, _ = fit_threshold(predict(asked.val[0]), asked.val[1], ERROR_RATE)
    labels, answered = asked.unseen[1], unseen.argmax(axis=1)
    surest = np.argsort(-unseen.max(axis=1), kind="stable")
    kept = surest[: max(1, round(COVERAGE * len(surest)))]
    curve = np.cumsum(answered[surest] == labels[surest]) / np.arange(1, len(surest) + 1)
    at = np.linspace(0, len(surest) - 1, min(50, len(surest))).astype(int)
    new = np.concatenate([np.ones(len(unseen)), np.zeros(len(seen))])
    doubt = 1.0 - np.concatenate([unseen.max(axis=1), seen.max(axis=1)])
    return {
        "unseen_photos": len(labels),
        "seen_photos": len(seen),
        "balanced_accuracy": balanced_accuracy(answered, labels, k),
        "recall": {
            name: float((answered[labels == i] == i).mean())
            for i, name in enumerate(superclasses)
            if (labels == i).any()
        },
        "selective_balanced_accuracy": balanced_accuracy(answered[kept], labels[kept], k),
        "seen_balanced_accuracy": balanced_accuracy(seen.argmax(axis=1), asked.seen[1], k),
        "auroc_unseen": float(roc_auc_score(new, doubt)),
        "seen_sorted": float((seen.max(axis=1) >= threshold).mean()),
        "sorted": float((unseen.max(axis=1) >= threshold).mean()),
        "sorted_wrong": count_wrong(unseen, labels, threshold) / len(labels),
        "coverage": ((at + 1) / len(surest)).tolist(),
        "accuracy_at_coverage": curve[at].tolist(),
    }
