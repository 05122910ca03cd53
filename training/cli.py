"""The training side's commands, but for the lab's and those that make a bundle's next version.

Imports stay inside them, so that `superbin --help` is instant.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from training import lab_cli, versions_cli
from training.options import DataOption, DeviceOption, MapOption, SetOption
from training.policy_cli import app as policy
from training.terminal import explained, kept_command, tell_how_to_go_on
from training.versions_cli import ReviewOption, ReviewPhotosOption, check_review

RunArgument = Annotated[Path, typer.Argument(help="Run folder that superbin train wrote.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the root of `superbin`; the entry-point group calls this."""
    app.command()(train)
    app.command()(evaluate)
    app.command()(calibrate)
    app.command()(export)
    app.command()(reference)
    app.command("bank-curve")(bank_curve)
    lab_cli.register(app)
    versions_cli.register(app)
    app.add_typer(policy, name="policy")


def train(
    context: typer.Context,
    config: Annotated[str, typer.Argument(help="A TOML record, or the name of a shipped one.")],
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for the run.")],
    set_: SetOption = None,
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
        typer.Option(
            "--out",
            help="Folder for JSON and pictures; by default below a run; of a bundle required.",
        ),
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
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new version of it that has them; else the bundle itself."),
    ] = None,
    superclasses: MapOption = None,
) -> None:
    """Add to a bundle what photos of val say of doubts, of items and of drift."""
    with explained():
        from training.reference import add_references

        add_references(bundle, data, superclasses, accept, only or (), out)


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
