"""A table's runs beside each other: one picture for each set of superclasses that it asks about."""

from __future__ import annotations

from pathlib import Path

from training.figures import save_picture
from training.richness import draw_richness
from training.side_by_side import Panel, draw_side_by_side, read_panel
from training.table_report import (
    RUNS,
    SUPERCLASSES,
    is_done,
    lines_of,
    picture_names,
    report_of,
    richness_name,
)
from training.tables import Run, Table


def draw_pictures(table: Table, runs: list[Run], out: Path) -> None:
    """Write what can be drawn: where two cells or more are done, and of superclasses any."""
    for name, mine in picture_names(table, runs).items():
        panels = panels_of(table, mine, out)
        if len(panels) > 1:
            save_picture(draw_side_by_side(panels), out / name)
    if table.figure == SUPERCLASSES:
        figure = draw_richness(lines_of(table, runs, out))
        if figure is not None:
            save_picture(figure, out / richness_name(table))


def panels_of(table: Table, runs: list[Run], out: Path) -> list[Panel]:
    """Of each cell that is done its first seed; without those evaluated on other photos."""
    panels: dict[str, Panel] = {}
    for run in runs:
        folder = out / RUNS / run.folder
        title = _title(table, run)
        if title in panels or not is_done(folder):
            continue
        if (panel := read_panel(title, report_of(folder).parent)) is not None:
            panels[title] = panel
    found = list(panels.values())
    return [one for one in found if one.points.photos == found[0].points.photos]


def _title(table: Table, run: Run) -> str:
    """What tells a cell from the others of its picture."""
    asked = table.columns[run.column].superclasses
    alike = [column for column in table.columns.values() if column.superclasses == asked]
    return run.row if asked is not None and len(alike) == 1 else f"{run.row}, {run.column}"
