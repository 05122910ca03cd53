"""The lab's commands: seeds and methods beside each other, tables of papers, public datasets.

Imports stay inside them, as in `training.cli`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.options import DataOption, DeviceOption, MapOption, SetOption
from training.terminal import explained, kept_command, typed_command


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(compare)
    app.command()(unseen)
    app.command()(reproduce)
    app.command()(download)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, seeds of one record or more.")],
    split: Annotated[str, typer.Option(help="The split that they were evaluated on.")] = "test",
    picture: Annotated[
        Path | None,
        typer.Option(help="PNG to write: the subclasses of a superclass, a panel for each run."),
    ] = None,
) -> None:
    """Print mean and spread over seeds of evaluated runs, as a Markdown table."""
    with explained():
        from training.compare import compare_runs, picture_runs

        typer.echo(compare_runs(runs, split))
        if picture is not None:
            picture_runs(runs, split, picture)
            typer.echo(f"\npicture: {picture}")


def unseen(
    folds: Annotated[
        str, typer.Argument(help="refuse, refuse-tune, cifar100-4, or a fold file of your own.")
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for figures, table and picture.")],
    record: Annotated[
        list[str] | None,
        typer.Option(
            help="A record to measure, such as unseen-matching. Repeatable; "
            "by default unseen-cross-entropy and unseen-sclre."
        ),
    ] = None,
    set_: SetOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each record and fold.")] = 3,
    shots: Annotated[
        int, typer.Option(min=0, help="Photos of each held-out kind that are shown after all.")
    ] = 0,
    words: Annotated[
        str | None,
        typer.Option(help="Names of things by bin: a words file, or a shipped one (refuse)."),
    ] = None,
    superclasses: MapOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure methods on kinds of things that were held out of training, on frozen features."""
    with explained():
        from training.device import keep_freed_memory
        from training.unseen import measure_unseen
        from training.unseen_report import write_unseen_report

        keep_freed_memory()
        records = record or ["unseen-cross-entropy", "unseen-sclre"]
        rows = measure_unseen(
            folds, data, out, records, set_, seeds, superclasses, device, shots, words
        )
        typer.echo(write_unseen_report(rows, out, folds, kept_command()))


def reproduce(
    table: Annotated[
        str,
        typer.Argument(
            help="table-3 to -6, ablation, methods, bank-curve, datasets, pretrained, or a file."
        ),
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Results; runs are shared between tables.")],
    budget: Annotated[
        float, typer.Option(min=0.0001, max=1.0, help="Share of the epochs, for a small machine.")
    ] = 1.0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each cell.")] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help="A row's or column's name, or a part. Repeatable.")
    ] = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan and train nothing.")] = False,
    device: DeviceOption = "auto",
) -> None:
    """Make a table of the paper again: what is done is kept, what was cut off goes on."""
    with explained():
        from training.device import keep_freed_memory, pick_device
        from training.interruption import Interrupted
        from training.reproduce import reproduce as fill
        from training.tables import Budget

        keep_freed_memory()
        try:
            text = fill(
                table,
                data,
                out,
                overrides=set_ or [],
                budget=Budget(budget, seeds, tuple(only or ())),
                device=pick_device(device),
                command=typed_command(),
                dry=dry_run,
            )
        except (Interrupted, KeyboardInterrupt):
            typer.echo(f"stopped; the same command goes on:\n  {typed_command()}", err=True)
            raise typer.Exit(130) from None
        typer.echo(text)


def download(
    name: Annotated[
        str, typer.Argument(help="cifar100, voc-2012, mini-imagenet, adience or fmow.")
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder for it; made where there is none.")],
    archive: Annotated[
        Path | None, typer.Option(help="Its file, where it was fetched some other way.")
    ] = None,
) -> None:
    """Fetch a public dataset, verify and unpack it, or say how to come by it."""
    with explained():
        from training.data.download import download as bring
        from training.data.sources import source_named

        typer.echo(f"done: {bring(source_named(name), to, archive)}. It is read with --data {to}")
