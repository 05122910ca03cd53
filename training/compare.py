"""Mean and spread over seeds of runs that were evaluated, method beside method, as Markdown."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from training.checkpoint import read_config
from training.errors import RunError
from training.outcome import BANK, CONTEXT_NAMES

FIGURES = ("accuracy", "balanced_accuracy")


def compare_runs(runs: list[Path], split: str) -> str:
    """A table with a row for each record, context and figure; the seeds' values stand beside.

    Raises:
        RunError: for a run that `superbin evaluate` has not seen on this split.
    """
    groups: dict[str, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for run in runs:
        config = read_config(run)
        file = run / f"evaluation-{split}" / "report.json"
        if not file.is_file():
            raise RunError(f"{run} has no {file}: run superbin evaluate {run} --split {split}")
        groups[config.name].append((config.seed, json.loads(file.read_text(encoding="utf-8"))))
    rows = [
        f"| record | context | figure on {split} | mean | standard deviation | by seed |",
        "|---|---|---|---|---|---|",
    ]
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
    return "\n".join(rows)


def _row(name: str, context: str, figure: str, values: list[float]) -> str:
    spread = f"{np.std(values, ddof=1):.2%}" if len(values) > 1 else "-"
    each = ", ".join(f"{value:.2%}" for value in values)
    figure = figure.replace("_", " ")
    return f"| {name} | {context} | {figure} | {np.mean(values):.2%} | {spread} | {each} |"
