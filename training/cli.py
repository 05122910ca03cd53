"""The training side's commands. Imports stay inside them, so that `superbin --help` is instant."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from training import versions_cli
from training.policy_cli import app as policy
from training.terminal import explained, kept_command, tell_how_to_go_on, typed_command
from training.versions_cli import ReviewOption, ReviewPhotosOption, check_review

DataOption = Annotated[
    Path,
    typer.Option("--data", help="Folder of labelled photos, in a form of training/README.md."),
]
MapOption = Annotated[
    Path | None,
    typer.Option(
        "--superclasses",
        help="TOML map of subclasses, or a shipped one (cifar100-4); default: in --data.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
RunArgument = Annotated[Path, typer.Argument(help="Run folder that superbin train wrote.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the root of `superbin`; the entry-point group calls this."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(calibrate)
    app.command()(export)
    app.command()(reference)
    app.command("bank-curve")(bank_curve)
    app.command()(compare)
    app.command()(unseen)
    app.command()(reproduce)
    app.command()(download)
    versions_cli.register(app)
    app.add_typer(policy, name="policy")


def train(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="A TOML record, or the name of a shipped one.")],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for the run.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override: section.key=value. Repeatable.")
    ] = None,
    superclasses: MapOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    from_review: ReviewOption = None,
    review_photos: ReviewPhotosOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a model: backbone, method and schedule as the record says."""
    with explained():
        from service.locks import locked
        from training import checkpoint, distributed
        from training.data.folds import read_photos_as
        from training.data.review import joined_photos
        from training.device import keep_freed_memory, pick_device
        from training.fit import fit
        from training.interruption import Interrupted
        from training.records import load_config

        check_review(context, from_review)
        record = load_config(config, set_)
        keep_freed_memory()
        with distributed.processes(), ExitStack() as held:
            with distributed.together():
                chosen = pick_device(distributed.own_device(device))
                photos = read_photos_as(data, record, superclasses)
                if from_review is not None:
                    photos = held.enter_context(joined_photos(photos, from_review, review_photos))

            def begin() -> None:
                held.enter_context(locked(out))
                command = kept_command()
                checkpoint.open_folder(out, record, command, chosen, photos, resume=resume)

            distributed.from_first(begin)
            try:
                fit(record, photos, out, device=chosen, resume=resume)
            except Interrupted as interruption:
                tell_how_to_go_on(f"{interruption}, all of it saved.")
            except KeyboardInterrupt:  # while photos are decoded or the bank is chosen
                begun = (out / checkpoint.CHECKPOINT).exists()
                tell_how_to_go_on(
                    "stopped; the last checkpoint is kept."
                    if begun
                    else "stopped before the first step."
                )
            first = distributed.rank() == 0  # whose machine has the run
        calibration = f"superbin calibrate {out} --data {data}"
        if first:
            typer.echo(
                f"done: {out}. Next: {calibration}, then superbin evaluate and superbin export"
            )


def evaluate(
    target: Annotated[
        Path, typer.Argument(help="A run folder, or a bundle folder (its ONNX file).")
    ],
    data: DataOption,
    split: Annotated[
        str, typer.Option(help="train, val or test; unseen where the record holds kinds out.")
    ] = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for JSON and pictures; by default below a run."),
    ] = None,
    superclasses: MapOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure a model on a split: figures as JSON and a table, pictures as PNG."""
    with explained():
        from training.evaluate import evaluate_target

        evaluate_target(target, data, split, out, superclasses, device)


def calibrate(
    run: RunArgument,
    data: DataOption,
    error_rate: Annotated[
        float, typer.Option(help="Wanted share of errors among the photos that are sorted.")
    ] = 0.01,
    superclasses: MapOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Fit the temperature and the confidence threshold on the val split."""
    with explained():
        from training.calibrate import calibrate_run

        calibrate_run(run, data, error_rate, superclasses, device)


def export(
    run: RunArgument,
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="The bundle: models/<name>/<version>.")],
    superclasses: MapOption = None,
    card: Annotated[
        Path | None, typer.Option(help="Markdown about data, licences and use, for CARD.md.")
    ] = None,
    self_test: Annotated[
        Path | None,
        typer.Option(help="Photos that the bundle takes along to try itself; default: 8 of val."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Write a bundle: fp32 and int8 ONNX, manifest and model card, or refuse."""
    with explained():
        from training.export import export_run

        export_run(run, data, out, superclasses, card, self_test, device)


def reference(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder: models/<name>/<version>.")],
    data: DataOption,
    accept: Annotated[
        float, typer.Option(help="Share of val that is familiar; the others would be doubted.")
    ] = 0.99,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="doubts, items or drift; the last two can be of your own cameras, without the "
            "bank's photos. Repeatable."
        ),
    ] = None,
    superclasses: MapOption = None,
) -> None:
    """Add to a bundle what photos of val say of doubts, of items and of drift."""
    with explained():
        from training.reference import add_references

        add_references(bundle, data, superclasses, accept, only or ())


def bank_curve(
    run: RunArgument,
    data: DataOption,
    split: Annotated[str, typer.Option(help="val to choose by; test to report.")] = "val",
    out: Annotated[Path | None, typer.Option("--out", help="By default the run folder.")] = None,
    superclasses: MapOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure accuracy against the size of the context bank, for each rule that chooses it."""
    with explained():
        from training.bank_curve import measure_bank_curve

        measure_bank_curve(run, data, split, out or run, superclasses, device)


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
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override: section.key=value. Repeatable.")
    ] = None,
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
        typer.Argument(help="table-3 to -6, ablation, methods, bank-curve, pretrained, or a file."),
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
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override: section.key=value. Repeatable.")
    ] = None,
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
