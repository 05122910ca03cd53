"""Pictures of embeddings on a plane, of which only who lies beside whom means anything."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from training.outcome import Array, Outcome
from training.subclass_points import SubclassPoints

# Okabe and Ito's, which all eyes tell apart, without yellow, which is faint on white.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
MARKERS = "o^sDvP*<>"  # nine over seven colours: 63 different ones
LEGEND_ROWS = 26


def draw_embedding(outcome: Outcome, some: Array, plane: Array, method: str) -> Any:
    """Photos [n] of all superclasses at float [n, 2]; crosses were answered wrongly."""
    labels, wrong = outcome.labels[some], (outcome.predicted != outcome.labels)[some]
    figure, axes = _open(f"{method} of the embeddings on {outcome.split} (x: wrong)")
    shown = {}
    for k, name in enumerate(outcome.superclasses):
        right = (labels == k) & ~wrong
        shown[name] = axes.scatter(*plane[right].T, s=18, **look_of(k), linewidths=0)
    for k in range(len(outcome.superclasses)):  # above all others
        bad = (labels == k) & wrong
        axes.scatter(*plane[bad].T, s=50, marker="x", color=look_of(k)["color"], linewidths=1.8)
    _add_legend(axes, shown)
    return figure


def draw_subclasses(points: SubclassPoints, method: str) -> Any:
    """One superclass: does the method keep its subclasses apart, or melt them into one?"""
    figure, axes = _open(f"{method} of {points.superclass} on {points.split}, by subclass")
    _add_legend(axes, scatter_subclasses(axes, points, method, size=22))
    return figure


def scatter_subclasses(
    axes: Any, points: SubclassPoints, method: str, *, size: float
) -> dict[str, Any]:
    """Each subclass in a colour and a marker of its own, the same ones in every picture.

    Returns what stands for each in a legend, by its name. It is no label, since matplotlib leaves
    labels that begin with an underscore out of legends.
    """
    plane, names = points.planes[method], np.array(points.subclasses)
    return {
        name: axes.scatter(
            *plane[names == name].T, s=size, **look_of(place), alpha=0.8, linewidths=0
        )
        for place, name in enumerate(sorted(set(points.subclasses)))
    }


def look_of(place: int) -> dict[str, str]:
    """Colour and marker of the class in this place, unlike those of the 62 before it."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def _open(title: str) -> tuple[Any, Any]:
    figure, axes = plt.subplots(figsize=(7.5, 7))
    axes.set(xticks=[], yticks=[], title=title)
    return figure, axes


def _add_legend(axes: Any, shown: dict[str, Any]) -> None:
    """Beside the axes, where no photo can be: names, and what stands for them."""
    columns = -(-len(shown) // LEGEND_ROWS)
    beside = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
    axes.legend(shown.values(), shown.keys(), **beside, ncols=columns, fontsize=9, markerscale=1.3)
