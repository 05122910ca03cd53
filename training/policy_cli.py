"""`superbin policy`: a site's rules against labelled photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.terminal import explained, typed_command

app = typer.Typer(help="Tune a site's rules on labelled photos.", no_args_is_help=True)


@app.callback()
def policy() -> None:
    """Tune a site's rules on labelled photos."""


@app.command()
def tune(
    site: Annotated[str, typer.Argument(help="A site file, or the name of a shipped one.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of labelled photos.")],
    out: Annotated[Path, typer.Option("--out", help="The site file to write, NAME.yaml.")],
    bundle: Annotated[
        Path | None,
        typer.Option(help="Folder of the model that will answer; by default the one of --model."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            envvar="SUPERBIN_MODEL",
            help="As for classify: a name, for its newest version, or name/version; else refuse.",
        ),
    ] = None,
    models_dir: Annotated[
        Path | None,
        typer.Option(envvar="SUPERBIN_MODELS_DIR", help="Folder of model bundles."),
    ] = None,
    error_rate: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Wanted among what is sorted.")
    ] = 0.01,
    coverage: Annotated[
        float | None, typer.Option(help="Guarantee of sets of bins, such as 0.95.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Of the new rules.")] = None,
    split: Annotated[str, typer.Option(help="Whose photos decide.")] = "val",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over a site file that is there.")
    ] = False,
    report: Annotated[
        list[str] | None, typer.Option(help="Other splits to report on. Repeatable.")
    ] = None,
) -> None:
    """Draw errors and costs against manual sorting, and write thresholds for an error rate."""
    with explained():
        from service.models_folder import DEFAULT_MODEL, default_models_dir, resolve_bundle
        from training.policy_tuning import Wish, tune_site

        if bundle is None:
            # Of several that are served the first answers.
            first = (model or DEFAULT_MODEL).partition(",")[0].strip()
            bundle = resolve_bundle(models_dir or default_models_dir(), first)
        wish = Wish(error_rate, coverage, split, tuple(report or ()))
        command = typed_command()
        told = tune_site(site, bundle, data, out, wish, version, command, overwrite=overwrite)
        typer.echo(told)
