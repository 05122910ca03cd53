"""Accuracy against the size of the context bank, for each rule that chooses it; for one model.

Nothing is trained again: features are computed once, and the bank alone is replaced.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import ScalarFormatter
from rich.console import Console
from rich.table import Table
from torch import Tensor

from training import checkpoint
from training.bank import fill_chosen_bank
from training.config import BankConfig, Config
from training.data.folds import read_photos_as
from training.data.photos import label_indices
from training.data.store import open_split
from training.device import pick_device
from training.errors import RunError
from training.figures import save_picture
from training.metrics import balanced_accuracy
from training.model import SuperclassModel
from training.outcome import check_superclasses
from training.predict import answer_all, extract_features
from training.progress import track

SIZES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
SELECTIONS = ("random", "centroids", "herding")
SEEDS = 5  # of the rules that draw; herding does not


def measure_bank_curve(
    run: Path, data: Path, split: str, out: Path, superclass_map: Path | None, device: str
) -> None:
    """Write `bank-curve.json` and `bank-curve.png` to `out`.

    Raises:
        RunError: for a run whose method has no bank.
        DataError: where the data have other superclasses than the run, or train or the split has
            no photo that can be decoded.
    """
    config = checkpoint.read_config(run)
    model, state = checkpoint.load_model(run)
    if not model.method.has_bank:
        raise RunError(f"{run}: {config.method} has no context bank")
    photos = read_photos_as(data, config, superclass_map)
    check_superclasses(tuple(state["superclasses"]), photos)
    chosen = pick_device(device)
    model = model.to(chosen)
    parts: dict[str, tuple[Tensor, Any]] = {}
    for name in (split, "train"):
        store = open_split(photos, name, config.data.served())
        features = extract_features(model, store.pixels, chosen, label=name)
        parts[name] = features, label_indices(store.photos, photos)
    rows = _curve(model, config, parts["train"], parts[split])
    out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json(out / "bank-curve.json", {"run": str(run), "split": split, "rows": rows})
    save_picture(_draw(rows, split), out / "bank-curve.png")
    _print(rows, split)


def _curve(
    model: SuperclassModel, config: Config, known: tuple[Tensor, Any], asked: tuple[Tensor, Any]
) -> list[dict[str, Any]]:
    """One row for each rule and size: mean and spread of accuracy over seeds."""
    model = copy.deepcopy(model)
    superclasses = int(known[1].max()) + 1
    rows: list[dict[str, Any]] = []
    sizes = [size for size in SIZES if superclasses <= size <= len(known[1])]
    with track("banks", len(SELECTIONS) * len(sizes)) as advance:
        for rule in SELECTIONS:
            for size in sizes:
                figures = []
                for seed in range(1 if rule == "herding" else SEEDS):
                    bank = BankConfig.model_validate({"size": size, "selection": rule})
                    record = config.model_copy(update={"bank": bank, "seed": seed})
                    fill_chosen_bank(model, *known, record)
                    answer = answer_all(model, asked[0], "bank")
                    predicted = answer.logits.argmax(dim=1).cpu().numpy()
                    accuracy = float((predicted == asked[1]).mean())
                    balanced = balanced_accuracy(predicted, asked[1], superclasses)
                    figures.append((accuracy, balanced))
                means, spreads = np.mean(figures, axis=0), np.std(figures, axis=0)
                rows.append(
                    {
                        "selection": rule,
                        "size": size,
                        "seeds": len(figures),
                        "accuracy": float(means[0]),
                        "accuracy_spread": float(spreads[0]),
                        "balanced_accuracy": float(means[1]),
                        "balanced_accuracy_spread": float(spreads[1]),
                    }
                )
                advance(1)
    return rows


def _draw(rows: list[dict[str, Any]], split: str) -> Any:
    figure, panels = plt.subplots(1, 2, figsize=(10, 4))
    for axes, name in zip(panels, ("accuracy", "balanced_accuracy"), strict=True):
        for rule in SELECTIONS:
            mine = [row for row in rows if row["selection"] == rule]
            x, y, e = ([row[key] for row in mine] for key in ("size", name, f"{name}_spread"))
            axes.errorbar(x, y, e, marker="o", capsize=2, label=rule)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set(xlabel="items in the bank", title=f"{name.replace('_', ' ')} on {split}")
    panels[0].legend()
    return figure


def _print(rows: list[dict[str, Any]], split: str) -> None:
    table = Table(title=f"context bank on {split}: accuracy / balanced accuracy")
    table.add_column("items")
    for rule in SELECTIONS:
        table.add_column(rule)
    for size in sorted({row["size"] for row in rows}):
        cells = [
            f"{row['accuracy']:.2%} / {row['balanced_accuracy']:.2%}"
            for rule in SELECTIONS
            for row in rows
            if row["size"] == size and row["selection"] == rule
        ]
        table.add_row(str(size), *cells)
    Console().print(table)
