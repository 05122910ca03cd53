"""What each run does to the subclasses of one superclass: the same photos, a panel for each run."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from training.embedding_figures import scatter_subclasses
from training.evaluate import REPORT
from training.projection import BY_TSNE, BY_UMAP
from training.subclass_points import SubclassPoints, read_points

ABREAST = 4  # panels; more go on below
TITLE_WIDTH = 40  # characters, of a panel
CHARACTERS, BESIDE_NAME = 12, 5  # of the legend, in an inch; of a marker and a gap


@dataclass(frozen=True)
class Panel:
    """A run's points.

    Attributes:
        spread: how far its subclasses lie apart in the embedding, which no plane tells: the mean
            cosine distance between their centres.
    """

    title: str
    points: SubclassPoints
    spread: float


def read_panel(title: str, evaluation: Path) -> Panel | None:
    """Of an evaluation's folder; None where it drew no subclasses."""
    if (points := read_points(evaluation)) is None:
        return None
    report = json.loads((evaluation / REPORT).read_text(encoding="utf-8"))
    return Panel(title, points, report["superclasses"][points.superclass]["subclass_spread"])


def draw_side_by_side(panels: list[Panel]) -> Any:
    """The same photos by several runs, t-SNE above and UMAP, where there is any, below."""
    known = {method for panel in panels for method in panel.points.planes}
    methods = [method for method in (BY_TSNE, BY_UMAP) if method in known]
    abreast = min(ABREAST, len(panels))
    bands = -(-len(panels) // abreast)
    size = (3.1 * abreast, (3.0 * len(methods) + 0.5) * bands + 1.0)
    figure, grid = plt.subplots(
        bands * len(methods), abreast, figsize=size, squeeze=False, layout="constrained"
    )
    for axes in grid.flat:
        axes.set_axis_off()
    shown: dict[str, Any] = {}
    for place, panel in enumerate(panels):
        band, column = divmod(place, abreast)
        for row, method in enumerate(methods):
            axes = grid[band * len(methods) + row, column]
            axes.set_axis_on()
            drawn = _fill(axes, panel, method)
            shown = shown or drawn  # alike in all of them
            if row == 0:
                title = textwrap.fill(panel.title, TITLE_WIDTH)
                axes.set_title(f"{title}\nspread {panel.spread:.2g}", fontsize=10)
            if column == 0:
                axes.set_ylabel(method, fontsize=10)
    _say_what(figure, panels[0].points)
    _add_legend(figure, shown)
    return figure


def _say_what(figure: Any, shown: SubclassPoints) -> None:
    figure.suptitle(
        f"{shown.superclass} on {shown.split}, by subclass: the same {len(shown.photos)} photos\n"
        "(spread: mean cosine distance between the centres of the subclasses)",
        fontsize=11,
    )


def _add_legend(figure: Any, shown: dict[str, Any]) -> None:
    """Below all panels, as wide as they are: names, and what stands for them."""
    room = figure.get_figwidth() * CHARACTERS
    columns = max(1, int(room / (max(map(len, shown)) + BESIDE_NAME)))
    figure.legend(
        *(shown.values(), shown.keys()),
        loc="outside lower center",
        ncols=columns,
        fontsize=8,
        markerscale=1.5,
    )


def _fill(axes: Any, panel: Panel, method: str) -> dict[str, Any]:
    axes.set(xticks=[], yticks=[])
    axes.set_box_aspect(1)
    if method in panel.points.planes:
        return scatter_subclasses(axes, panel.points, method, size=12)
    lacks = "evaluated without\numap-learn"
    axes.text(0.5, 0.5, lacks, ha="center", va="center", transform=axes.transAxes)
    return {}
