"""A table's cells out of the reports of its runs: Markdown to read, JSON to go on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training import checkpoint
from training.markdown import markdown_table
from training.outcome import CONTEXT_NAMES
from training.tables import Budget, Run, Table

RUNS = "runs"
SPLIT = "test"
BANK_CURVE = "bank-curve.json"
SUPERCLASSES = "superclasses"  # the figure of a table

Line = dict[str, Any]
Reports = list[dict[str, Any]]


def report_of(folder: Path) -> Path:
    """The report of a run on the test split."""
    return folder / f"evaluation-{SPLIT}" / "report.json"


def is_done(folder: Path) -> bool:
    """Whether a run is trained and evaluated."""
    return report_of(folder).is_file()


def picture_names(table: Table, runs: list[Run]) -> dict[str, list[Run]]:
    """The files beside the table, each with the runs of one map: the same photos and labels."""
    names: dict[str, list[Run]] = {}
    for run in runs:
        names.setdefault(f"{table.name}-{Path(run.superclasses).stem}.png", []).append(run)
    return names


def richness_name(table: Table) -> str:
    """The file of a picture of superclasses, accuracy against how rich they are."""
    return f"{table.name}-richness.png"


def lines_of(table: Table, runs: list[Run], out: Path) -> list[Line]:
    """The table's lines, as they are now.

    Args:
        runs: all of the table, done or not.
    """
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.row, run.column), []).append(run)
    lines: list[Line] = []
    for (row, column), mine in cells.items():
        done = [run for run in mine if is_done(out / RUNS / run.folder)]
        common = {"method": row, "problem": column}
        for line in LINES[table.figure](table, mine[0], done, out):
            how = {"seeds": len(done), "epochs": mine[0].config.train.epochs}
            lines.append({**common, **line, **how, "runs": [run.folder for run in done]})
    return lines


def write_table(table: Table, runs: list[Run], out: Path, budget: Budget) -> str:
    """Write `<table>.md` and `<table>.json` to `out`; returns the Markdown.

    Args:
        runs: all of the table, done or not.
    """
    lines = lines_of(table, runs, out)
    note = _note(table, runs, out, budget)
    pictures = dict.fromkeys(picture_names(table, runs), "the test photos of one superclass")
    pictures[richness_name(table)] = "accuracy of superclasses against how rich they are"
    there = {name: told for name, told in pictures.items() if (out / name).is_file()}
    shown = "".join(f"\n![{told}]({name})\n" for name, told in there.items())
    text = f"# {table.title}\n\n{_markdown(lines)}\n\n{note}\n{shown}"
    (out / f"{table.name}.md").write_text(text, encoding="utf-8")
    record = {"title": table.title, "note": note, "budget": budget.share, "lines": lines}
    checkpoint.write_json(out / f"{table.name}.json", record)
    return text


def _accuracy(table: Table, cell: Run, done: list[Run], out: Path) -> list[Line]:
    """The paper's figure, ours as it would be served, and ours by the paper's protocol."""
    reports = _reports(done, out)
    paper = table.rows[cell.row].paper
    banked = [report["accuracy"] for report in reports]
    contexts = [report["other_contexts"].get(CONTEXT_NAMES["batch"]) for report in reports]
    batch = [context["accuracy"] for context in contexts if context]
    return [
        {
            "paper": paper[list(table.columns).index(cell.column)] if paper else None,
            "accuracy (bank)": _over_seeds(banked),
            "balanced (bank)": _over_seeds([report["balanced_accuracy"] for report in reports]),
            "accuracy (batch protocol)": _over_seeds(batch),
        }
    ]


def _superclasses(table: Table, cell: Run, done: list[Run], out: Path) -> list[Line]:
    """A line for each superclass: its share of the test split, its accuracy, and how rich it is.

    One that is empty where nobody knows yet which there are.
    """
    reports, paper = _reports(done, out), table.paper.get(cell.row, {}).get(cell.column, {})
    names = reports[0]["superclasses"] if reports else paper
    return [
        {
            "superclass": name,
            "share": _over_seeds([_share(report, name) for report in reports]),
            "paper": paper.get(name),
            "accuracy (bank)": _over_seeds([r["superclasses"][name]["recall"] for r in reports]),
            "subclasses": reports[0]["superclasses"][name]["subclasses"] if reports else None,
            "their spread": _over_seeds(
                [r["superclasses"][name]["subclass_spread"] for r in reports]
            ),
        }
        for name in names
    ] or [{}]


def _answers(table: Table, cell: Run, done: list[Run], out: Path) -> list[Line]:
    """What the photos of one subclass are called."""
    reports, paper = _reports(done, out), table.paper.get(cell.row, {}).get(cell.column, {})
    names = reports[0]["superclasses"] if reports else paper
    line: Line = {}
    for name in names:
        line[f"{name}, paper"] = paper.get(name)
        line[name] = _over_seeds([_answered(report, table.asked, name) for report in reports])
    return [line]


def _bank_curve(table: Table, cell: Run, done: list[Run], out: Path) -> list[Line]:
    """A line for each size and rule; one that is empty where nothing was measured yet."""
    files = [out / RUNS / run.folder / BANK_CURVE for run in done]
    curves = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    return [
        {
            "choice": row["selection"],
            "items": row["size"],
            "accuracy (bank)": _over_seeds(
                [
                    other["accuracy"]
                    for curve in curves
                    for other in curve["rows"]
                    if (other["selection"], other["size"]) == (row["selection"], row["size"])
                ]
            ),
        }
        for row in (curves[0]["rows"] if curves else ())
    ] or [{}]


LINES: dict[str, Callable[[Table, Run, list[Run], Path], list[Line]]] = {
    "accuracy": _accuracy,
    SUPERCLASSES: _superclasses,
    "answers": _answers,
    "bank-curve": _bank_curve,
}


def _reports(done: list[Run], out: Path) -> Reports:
    files = [report_of(out / RUNS / run.folder) for run in done]
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _share(report: dict[str, Any], superclass: str) -> float:
    return float(report["superclasses"][superclass]["photos"] / report["photos"])


def _answered(report: dict[str, Any], subclass: str | None, superclass: str) -> float:
    """Share of a subclass's photos, of whatever source, that are called so."""
    answers: dict[str, int] = {}
    for name, figures in report["subclasses"].items():
        if name.rpartition("/")[2] == subclass:
            for answer, photos in figures["answers"].items():
                answers[answer] = answers.get(answer, 0) + photos
    return answers.get(superclass, 0) / max(1, sum(answers.values()))


def _over_seeds(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean and standard deviation, and each seed's value; None where a seed has none."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else None
    return {"mean": float(np.mean(known)), "deviation": spread, "seeds": known}


def _markdown(lines: list[Line]) -> str:
    heads = list(dict.fromkeys(key for line in lines for key in line if key != "runs"))
    rows = [[_cell(head, line.get(head)) for head in heads] for line in lines]
    return markdown_table(heads, rows)


def _cell(head: str, value: Any) -> str:
    """Shares as per cent; the paper's figures are per cent already."""
    if value is None:
        return ""
    if isinstance(value, dict):
        spread = "" if value["deviation"] is None else f" ± {100 * value['deviation']:.1f}"
        return f"{100 * value['mean']:.1f}{spread}"
    if head == "epochs":
        return f"{value:g}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _note(table: Table, runs: list[Run], out: Path, budget: Budget) -> str:
    """What the figures are of: budget, network, hardware, and how much is still empty."""
    done = [run for run in runs if is_done(out / RUNS / run.folder)]
    machines = {checkpoint.read_record(out / RUNS / run.folder)["hardware"] for run in done}
    networks = {
        f"{run.config.backbone.name} ({run.config.backbone.stem} stem) at {run.config.data.px} px"
        for run in runs
    }
    return (
        f"In per cent, mean ± standard deviation over seeds. Record `{table.record}` with "
        f"{_share_of_epochs(budget)} epochs; {', '.join(sorted(networks))}; checkpoints chosen on "
        f"val. Bank: as it is served. Batch protocol: as in the paper each photo is in sight of 63 "
        f"others of test; unlike in its code BatchNorm is in evaluation mode, and the epoch is not "
        f"chosen on test. {len(done)} of {len(runs)} runs are done"
        + (f", on {', '.join(sorted(machines))}" if machines else "")
        + ". Empty cells have not been run, or have no photo of test."
    )


def _share_of_epochs(budget: Budget) -> str:
    return "all of its" if budget.share == 1.0 else f"{budget.share:.3g} of its"
