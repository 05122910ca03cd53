"""Make a paper's table again: plan its runs, do those that are missing, write what there is.

A run that is finished is not done again, one that was cut off goes on. The table is written after
every run, with the cells that are still empty, so that it can be looked at and stopped at any time.
"""

from __future__ import annotations

import os
from pathlib import Path

from service.locks import locked
from training import checkpoint
from training.bank_curve import measure_bank_curve
from training.data.folds import read_photos_as
from training.data.photos import labels_digest
from training.errors import ConfigError, DataError, RunError
from training.evaluate import evaluate_target
from training.fit import fit
from training.records import record_changes
from training.table_pictures import draw_pictures
from training.table_report import BANK_CURVE, RUNS, SPLIT, is_done, write_table
from training.tables import Budget, Run, plan, read_table


def reproduce(
    reference: str,
    data: Path,
    out: Path,
    *,
    overrides: list[str],
    budget: Budget,
    device: str,
    command: str,
    dry: bool = False,
) -> str:
    """Do what is missing of a table; returns it as Markdown.

    Args:
        reference: a table's file, or the name of a shipped one.
        data: folder of the photos that all runs read, each with its own superclasses.
        out: results, with the runs in a folder of their own that other tables share.
        overrides: `key=value` for every run.
        command: what was typed, for the runs' records.
        dry: plan, and write what there is, but train nothing.

    Raises:
        ConfigError, DataError, RunError: as the runs do.
        Interrupted: after SIGINT or SIGTERM, with everything saved.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("reproduce is one process; torchrun starts superbin train")
    table = read_table(reference)
    runs = plan(table, out / RUNS, overrides, budget)
    chosen = _with_needed(runs, budget.only)
    if not chosen:
        raise ConfigError(
            f"no cell of {table.name} matches {', '.join(budget.only)}; it has the rows "
            f"{', '.join(table.rows)} and the columns {', '.join(table.columns)}"
        )
    if not data.is_dir():
        raise DataError(f"expected a folder of photos, got {data}, which is none")
    out.mkdir(parents=True, exist_ok=True)
    for run in chosen:
        print(f"{_state(out / RUNS / run.folder):>8}  {run.config.name}, seed {run.seed}")
    draw_pictures(table, runs, out)
    text = write_table(table, runs, out, budget)
    labels: dict[str, str] = {}
    for place, run in enumerate(() if dry else chosen, 1):
        folder = out / RUNS / run.folder
        if is_done(folder):
            _check(run, folder)
            _check_photos(run, folder, data, labels)
        else:
            print(f"run {place} of {len(chosen)}: {run.config.name}, seed {run.seed}", flush=True)
            with locked(folder):
                _do(run, data, folder, device, command)
            draw_pictures(table, runs, out)
        if table.figure == "bank-curve" and not (folder / BANK_CURVE).is_file():
            measure_bank_curve(folder, data, SPLIT, folder, Path(run.superclasses), device)
        text = write_table(table, runs, out, budget)
    return text


def _check(run: Run, folder: Path) -> None:
    """A default that has changed since would go unnoticed by the folder's name."""
    # Names and places of other runs may differ.
    before, now = (
        config.model_copy(
            update={
                "name": "",
                "backbone": config.backbone.model_copy(update={"weights": None}),
                "george": config.george.model_copy(update={"first_stage": None}),
            }
        ).model_dump(mode="json")
        for config in (checkpoint.read_config(folder), run.config)
    )
    if changed := record_changes(before, now):
        raise RunError(f"{folder} was made by another record: {'; '.join(changed)}; move it away")


def _check_photos(run: Run, folder: Path, data: Path, known: dict[str, str]) -> None:
    """See that a run is of these photos: a table of two data sets would say nothing.

    Args:
        known: digests of the labels by how they are read, for those that come again.

    Raises:
        RunError: where it is not.
    """
    how = f"{run.superclasses} {run.config.data.model_dump_json()}"
    if how not in known:
        photos = read_photos_as(data, run.config, Path(run.superclasses))
        known[how] = labels_digest(photos.photos)
    if checkpoint.read_record(folder)["dataset"]["labels_sha256"] != known[how]:
        raise RunError(
            f"{folder} was made of other photos than those of {data} as they are; name another "
            "folder with --out, or move it away"
        )


def _state(folder: Path) -> str:
    if is_done(folder):
        return "done"
    trained = (folder / checkpoint.MODEL).is_file()
    begun = (folder / checkpoint.CHECKPOINT).is_file()
    return "trained" if trained else "begun" if begun else "to do"


def _with_needed(runs: list[Run], only: tuple[str, ...]) -> list[Run]:
    """The runs whose row or column is wanted, and those that they begin with, each once."""
    parts = [part.lower() for part in only]
    names = {name.lower() for run in runs for name in (run.row, run.column)}

    def matches(run: Run, part: str) -> bool:
        cell = (run.row.lower(), run.column.lower())
        return part in cell if part in names else part in " ".join(cell)

    wanted = {run.folder for run in runs if not only or any(matches(run, p) for p in parts)}
    for run in reversed(runs):  # what is begun with stands above, and may begin with another
        if run.folder in wanted:
            wanted |= set(run.needs)
    return list({run.folder: run for run in runs if run.folder in wanted}.values())


def _do(run: Run, data: Path, folder: Path, device: str, command: str) -> None:
    """Train, or go on, and evaluate; then what a run would go on from is of no more use."""
    superclasses = Path(run.superclasses)
    if not (folder / checkpoint.MODEL).is_file():
        photos = read_photos_as(data, run.config, superclasses)
        begun = (folder / checkpoint.RECORD).is_file()
        checkpoint.open_folder(folder, run.config, command, device, photos, resume=begun)
        fit(run.config, photos, folder, device=device, resume=begun)
    evaluate_target(folder, data, SPLIT, None, superclasses, device)
    (folder / checkpoint.CHECKPOINT).unlink(missing_ok=True)
