"""Accuracy of each superclass against how rich it is, as in the paper's supplement D.

Rich is a superclass of many subclasses, and one whose subclasses lie far apart in the embedding
space of the method (`training.evaluate` measures both).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from scipy.stats import spearmanr

Line = Mapping[str, Any]
ACCURACY, SPREAD = "accuracy (bank)", "their spread"
MARKERS = "osD^vP*X" * 4
LEAST = 4  # points, for a rank correlation to be told


def draw_richness(lines: Sequence[Line]) -> Any | None:
    """A picture of a table's superclasses; None where none has been measured.

    Args:
        lines: of the figure `superclasses` of `training.table_report`: a method, a problem, a
            superclass, and means over seeds.
    """
    known = [line for line in lines if line.get(ACCURACY) and line.get(SPREAD)]
    if not known:
        return None
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    _draw(panels[0], known, "subclasses", lambda line: float(line["subclasses"]))
    _draw(panels[1], known, "their spread (1 - mean cosine)", lambda line: _mean(line, SPREAD))
    for line in known:
        if line["method"] == known[0]["method"]:
            at = (line["subclasses"], _mean(line, ACCURACY))
            beside: dict[str, Any] = {"xytext": (4, 2), "textcoords": "offset points"}
            panels[0].annotate(line["superclass"], at, **beside, fontsize=6, alpha=0.7)
    panels[0].set(ylabel=ACCURACY)
    figure.suptitle("Accuracy of superclasses against how rich they are", fontsize=10)
    return figure


def _draw(axes: Any, lines: Sequence[Line], label: str, of: Callable[[Line], float]) -> None:
    """A colour for each method, a marker for each problem."""
    problems = list(dict.fromkeys(line["problem"] for line in lines))
    for colour, method in enumerate(dict.fromkeys(line["method"] for line in lines)):
        mine = [line for line in lines if line["method"] == method]
        richness, accuracies = [of(line) for line in mine], [_mean(line, ACCURACY) for line in mine]
        for line, x, y in zip(mine, richness, accuracies, strict=True):
            axes.plot(x, y, MARKERS[problems.index(line["problem"])], color=f"C{colour}")
        axes.plot(
            [], [], color=f"C{colour}", linewidth=4, label=_named(method, richness, accuracies)
        )
    for problem, marker in zip(problems, MARKERS, strict=False):
        axes.plot([], [], marker, color="grey", label=problem)
    axes.set(xlabel=label, ylim=(0, 1))
    axes.legend(fontsize=8, loc="lower right")


def _mean(line: Line, figure: str) -> float:
    return float(line[figure]["mean"])


def _named(method: str, richness: Sequence[float], accuracies: Sequence[float]) -> str:
    """With Spearman's rank correlation, where there are points enough that differ."""
    if len(richness) < LEAST or np.ptp(richness) == 0 or np.ptp(accuracies) == 0:
        return method
    rho = spearmanr(richness, accuracies).statistic
    return f"{method}: rank correlation {rho:.2f} of {len(richness)}"
