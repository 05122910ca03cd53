"""Runs that were evaluated, method beside method: mean and spread over seeds, and a picture."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from training.checkpoint import read_config
from training.config import Config
from training.errors import ConfigError, RunError
from training.figures import save_picture
from training.markdown import markdown_table
from training.outcome import BANK, CONTEXT_NAMES
from training.projection import LEAST
from training.side_by_side import Panel, draw_side_by_side, read_panel

FIGURES = ("accuracy", "balanced_accuracy")


def compare_runs(runs: list[Path], split: str) -> str:
    """A table with a row for each record, context and figure; the seeds' values stand beside.

    Raises:
        RunError: for a run that `superbin evaluate` has not seen on this split, or on other photos
            than the first; for a seed of a record that comes twice.
    """
    configs = [read_config(run) for run in runs]
    of_seed: dict[tuple[str, int], Path] = {}
    groups: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    photos: dict[str | None, Path] = {}
    for run, config, title in zip(runs, configs, _titles(configs), strict=True):
        if before := of_seed.get((title, config.seed)):
            raise RunError(
                f"expected each seed of {title} once, got seed {config.seed} in {before} and in "
                f"{run}"
            )
        of_seed[title, config.seed] = run
        report = _report(run, split)
        photos.setdefault(report.get("dataset", {}).get("labels_sha256"), run)
        if len(photos) > 1:
            raise RunError(
                f"expected runs that were evaluated on the same photos of {split}, got other ones "
                f"in {run} than in {runs[0]}"
            )
        groups[title].append((config.seed, report))
    rows = []
    for name, reports in sorted(groups.items()):
        reports.sort(key=lambda pair: pair[0])
        served = reports[0][1]["context"]  # of cross-entropy it is the only one
        for context in (None, *(CONTEXT_NAMES.values() if served == BANK else ())):
            for figure in FIGURES:
                values = [
                    (report if context is None else report["other_contexts"][context])[figure]
                    for _, report in reports
                ]
                rows.append(_row(name, context or served, figure, values))
    head = ("record", "context", f"figure on {split}", "mean", "standard deviation", "by seed")
    return markdown_table(head, rows)


def _titles(configs: list[Config]) -> list[str]:
    """Each record's name, with the values in which it is unlike others of that name, seed apart."""
    records = [_flat(config.model_dump(mode="json", exclude={"seed"})) for config in configs]
    titles = []
    for record in records:
        alike = [other for other in records if other["name"] == record["name"]]
        own = [f"{k}={v}" for k, v in record.items() if any(other[k] != v for other in alike)]
        titles.append(record["name"] + (f" ({', '.join(own)})" if own else ""))
    return titles


def _flat(record: dict[str, Any], place: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in record.items():
        inside = isinstance(value, dict)
        found |= _flat(value, f"{place}{key}.") if inside else {f"{place}{key}": value}
    return found


def _report(run: Path, split: str) -> dict[str, Any]:
    file = run / f"evaluation-{split}" / "report.json"
    if not file.is_file():
        raise RunError(f"{run} has no {file}: run superbin evaluate {run} --split {split}")
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report


def picture_runs(runs: list[Path], split: str, picture: Path) -> None:
    """The subclasses of the richest superclass as PNG, the same photos in a panel for each run.

    Raises:
        ConfigError: where `picture` cannot be written.
        RunError: for a run whose evaluation drew no subclasses, or those of other photos.
    """
    if picture.suffix != ".png" or not picture.parent.is_dir():
        raise ConfigError(f"expected a name that ends in .png, in a folder, got {picture}")
    configs = [read_config(run) for run in runs]
    panels = [
        _panel(run, split, f"{title}, seed {config.seed}")
        for run, config, title in zip(runs, configs, _titles(configs), strict=True)
    ]
    for run, panel in zip(runs, panels, strict=True):
        if panel.points.photos != panels[0].points.photos:
            raise RunError(
                f"expected runs that were evaluated on the same photos, got other ones of "
                f"{panel.points.superclass} in {run} than of {panels[0].points.superclass} in "
                f"{runs[0]}"
            )
    save_picture(draw_side_by_side(panels), picture)


def _panel(run: Path, split: str, title: str) -> Panel:
    panel = read_panel(title, run / f"evaluation-{split}")
    if panel is None:
        raise RunError(
            f"{run} has no points of subclasses on {split}: superbin evaluate {run} --split "
            f"{split} keeps them, where a superclass has {LEAST} photos of two subclasses or more"
        )
    return panel


def _row(name: str, context: str, figure: str, values: list[float]) -> list[str]:
    spread = f"{np.std(values, ddof=1):.2%}" if len(values) > 1 else "-"
    each = ", ".join(f"{value:.2%}" for value in values)
    return [name, context, figure.replace("_", " "), f"{np.mean(values):.2%}", spread, each]
