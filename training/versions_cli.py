"""Commands that make the next version of a bundle: correct its bank, promote another model.

Imports stay inside them, as in `training.cli`.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from training.terminal import explained, kept_command

ReviewOption = Annotated[
    str | None,
    typer.Option(
        help="Reviewed photos: a folder as training reads it, or the URL of a review store.",
    ),
]
ReviewPhotosOption = Annotated[
    str | None,
    typer.Option(
        "--review-photos",
        envvar="SUPERBIN_REVIEW_PHOTOS",
        help="Where the photos of a review store lie.",
    ),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Labelled photos to measure the new version with.")
]
MapOption = Annotated[
    Path | None, typer.Option("--superclasses", help="TOML map of subclasses, as for train.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(correct)
    app.command()(promote)


def check_review(context: typer.Context, from_review: str | None) -> None:
    """See that --review-photos has its use where it was typed; the environment may always have it.

    Raises:
        ConfigError: where no review store is named.
    """
    from training.errors import ConfigError

    source = context.get_parameter_source("review_photos")
    typed = source is not None and source.name == "COMMANDLINE"
    if typed and "://" not in (from_review or ""):
        raise ConfigError(
            "--review-photos says where the photos of a review store lie: expected --from-review "
            f"with the URL of its database, got {from_review or 'none'}"
        )


def correct(
    context: typer.Context,
    bundle: Annotated[
        Path, typer.Argument(help="The version to correct: models/<name>/<version>.")
    ],
    from_review: ReviewOption = None,
    review_photos: ReviewPhotosOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The new version, <models>/<name>/<version>; by default the next."
        ),
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="Id of a bank item that is wrong. Repeatable.")
    ] = None,
    remove_kind: Annotated[
        list[str] | None, typer.Option(help="A subclass whose items all leave. Repeatable.")
    ] = None,
    background: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures of what is of no superclass, to be doubted."),
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000.0,
            help="Original items that a reviewed one counts as (matching; default: 1 to 10).",
        ),
    ] = None,
    most: Annotated[
        int, typer.Option(min=1, max=100_000, help="Reviewed items that the bank may have.")
    ] = 1000,
    run: Annotated[
        Path | None, typer.Option("--run", help="The training run; SCLRE needs it for its keys.")
    ] = None,
    data: DataOption = None,
    superclasses: MapOption = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Fit the threshold anew on val of --data.")
    ] = False,
    sites_dir: Annotated[
        Path | None,
        typer.Option(envvar="SUPERBIN_SITES_DIR", help="Site files, whose kinds are known, too."),
    ] = None,
) -> None:
    """Put photos into a bundle's bank or background, or take some out: a new version, untrained."""
    with explained():
        from service.sites import SHIPPED
        from training.correct import Order, correct_bundle
        from training.data.review import review_folder
        from training.versions import next_version

        check_review(context, from_review)
        reviewed = review_folder(from_review, review_photos) if from_review else nullcontext()
        with reviewed as folder:
            order = Order(
                bundle=bundle,
                out=out or next_version(bundle.absolute().parent),
                review=folder,
                remove=tuple(dict.fromkeys(remove or ())),
                remove_kinds=tuple(dict.fromkeys(remove_kind or ())),
                background=background,
                weight=weight,
                most=most,
                run=run,
                data=data,
                superclass_map=superclasses,
                recalibrate=recalibrate,
                sites_dir=sites_dir or SHIPPED,
            )
            correct_bundle(order, kept_command())


def promote(
    context: typer.Context,
    candidate: Annotated[Path, typer.Argument(help="The new model, a bundle folder.")],
    over: Annotated[
        Path, typer.Option("--over", help="The version that it is to follow, a bundle folder.")
    ],
    data: Annotated[
        Path, typer.Option("--data", help="Labelled photos; the test split is measured.")
    ],
    from_review: ReviewOption = None,
    review_photos: ReviewPhotosOption = None,
    margin: Annotated[
        float, typer.Option(help="Loss in a superclass's recall that is let pass; 0.01: a point.")
    ] = 0.01,
    report: Annotated[
        Path | None, typer.Option(help="Folder for the report, whatever comes of it.")
    ] = None,
    superclasses: MapOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare, and write nothing.")] = False,
) -> None:
    """Make a model the next version, unless it is worse; then the status is 1."""
    with explained():
        from training.data.review import review_folder
        from training.promote import Contest
        from training.promote import promote as compare_and_write

        check_review(context, from_review)
        reviewed = review_folder(from_review, review_photos) if from_review else nullcontext()
        with reviewed as folder:
            contest = Contest(
                candidate=candidate,
                over=over,
                data=data,
                superclass_map=superclasses,
                review=folder,
                margin=margin,
                report=report,
                dry=dry_run,
            )
            passed = compare_and_write(contest, kept_command())
        if not passed:
            raise typer.Exit(1)
