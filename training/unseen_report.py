"""The table and the picture of `training.unseen`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from training.export import portable
from training.figures import save_picture
from training.markdown import markdown_table
from training.unseen import COVERAGE, ERROR_RATE
from training.unseen_rows import over_seeds

FIGURES = {
    "balanced_accuracy": "balanced accuracy, unseen kinds",
    "selective_balanced_accuracy": f"the same of the surest {COVERAGE:.0%}",
    "sorted_wrong": f"sorted wrongly, by the threshold of {ERROR_RATE:.0%} errors on val",
    "seen_sorted": "seen kinds (test) that it sorts",
    "auroc_unseen": "AUROC, unseen against seen",
    "seen_balanced_accuracy": "balanced accuracy, seen kinds (test)",
}


def write_unseen_report(rows: list[dict[str, Any]], out: Path, folds: str, command: str) -> str:
    """Write `unseen.md` and `unseen.png` to `out`; returns the table.

    Args:
        folds: the fold file, or the name of a shipped one.
        command: that made the rows.
    """
    superclasses = sorted({name for row in rows for name in row["recall"]})
    head = ["record", *FIGURES.values(), *(f"recall, {name}" for name in superclasses)]
    lines = []
    means = {figure: over_seeds(rows, figure) for figure in FIGURES}
    for record in means["balanced_accuracy"]:
        mine = [row for row in rows if row["record"] == record]
        cells = [_cell(means[figure][record]) for figure in FIGURES]
        cells += [f"{_recall(mine, name):.1%}" for name in superclasses]
        lines.append([record, *cells])
    table = markdown_table(head, lines)
    text = f"{_caption(rows, folds, command)}\n\n{table}\n"
    (out / "unseen.md").write_text(text, encoding="utf-8")
    save_picture(_draw(rows, superclasses), out / "unseen.png")
    return table


def _caption(rows: list[dict[str, Any]], folds: str, command: str) -> str:
    """What the table is of, and how it is made again."""
    of = [", ".join(map(str, dict.fromkeys(row[key] for row in rows))) for key in ("fold", "seed")]
    return (
        f"Kinds of things that were held out of training, heads on frozen features. Folds of "
        f"{Path(folds).stem}: {of[0]}; seeds: {of[1]} (votes have none). In per cent, means over "
        f"folds; ± the standard deviation over seeds, where there are several. Made by "
        f"`{portable(command)}`."
    )


def _cell(seeds: list[float]) -> str:
    """Mean over folds; ± the standard deviation over seeds."""
    spread = f" ± {100 * np.std(seeds, ddof=1):.1f}" if len(seeds) > 1 else ""
    return f"{100 * np.mean(seeds):.1f}{spread}"


def _recall(rows: list[dict[str, Any]], superclass: str) -> float:
    return float(
        np.mean([row["recall"][superclass] for row in rows if superclass in row["recall"]])
    )


def _draw(rows: list[dict[str, Any]], superclasses: list[str]) -> Any:
    """Recall of each superclass, and accuracy against the share of photos that is answered."""
    records = list(dict.fromkeys(row["record"] for row in rows))
    figure, (bars, curves) = plt.subplots(1, 2, figsize=(12, 4.5))
    width = 0.8 / len(records)
    for place, record in enumerate(records):
        mine = [row for row in rows if row["record"] == record]
        heights = [_recall(mine, name) for name in superclasses]
        bars.bar(np.arange(len(superclasses)) + place * width, heights, width, label=record)
        share = np.linspace(0.02, 1.0, 50)
        accuracy = [np.interp(share, row["coverage"], row["accuracy_at_coverage"]) for row in mine]
        curves.plot(share, np.mean(accuracy, axis=0), label=record)
    bars.set_xticks(np.arange(len(superclasses)) + 0.4 - width / 2, superclasses)
    bars.set(ylim=(0, 1), title="recall on kinds that were held out", ylabel="mean over folds")
    curves.axvline(COVERAGE, color="grey", linestyle=":")
    curves.set(
        ylim=(0, 1), xlabel="share of photos answered, surest first", title="accuracy of those"
    )
    curves.legend()
    return figure
