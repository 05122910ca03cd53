"""The root of the `superbin` command; other packages add their own by entry point.

Imports stay inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from service import __version__, stored_cli
from service.terminal import fail, print_json

if TYPE_CHECKING:
    from service.bulk.steps import BulkConfig
    from service.schemas import BrokenModel, ModelInfo
    from service.settings import Settings

GROUP = "superbin.commands"
OWN = frozenset({"serve", "classify", "models", "key", "sites", "review", "report"})

app = typer.Typer(
    name="superbin",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelOption = Annotated[str | None, typer.Option(help="Bundle: name, or name/version.")]
ModelsOption = Annotated[
    str | None, typer.Option("--model", help="Bundles: name, or name/version, by commas.")
]
ModelsDirOption = Annotated[Path | None, typer.Option(help="Folder of model bundles.")]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cpu:N, cuda:I, tensorrt:I, or by commas.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")]


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"superbin {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """Learn the bin, not the thing: train, export and serve superclass models for refuse."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    model: ModelsOption = None,
    models_dir: ModelsDirOption = None,
    device: DeviceOption = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve.")] = None,
) -> None:
    """Serve the classifier over HTTP; options win over SUPERBIN_* variables, which set the rest."""
    from service.errors import SuperbinError
    from service.settings import load_settings
    from service.workers import serve as serve_settings

    given = {"host": host, "port": port, "model": model, "models_dir": models_dir}
    try:
        serve_settings(load_settings(**given, device=device, workers=workers))
    except SuperbinError as error:
        fail(str(error))


@app.command()
def classify(
    photos: Annotated[
        list[str],
        typer.Argument(help="Photos; with --out folders, lists of paths and - (a list) too."),
    ],
    model: ModelOption = None,
    models_dir: ModelsDirOption = None,
    device: DeviceOption = None,
    site: Annotated[str | None, typer.Option(help="Whose rules say which bin.")] = None,
    language: Annotated[str | None, typer.Option(help="Of the bins' names, such as de.")] = None,
    json: JsonOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Parquet or CSV file to write, for any number of photos.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option(min=1, help="With --out: photos in each part that is kept.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="With --out: forget what was done before.")
    ] = False,
    add: Annotated[
        bool,
        typer.Option("--add", help="With --out: add photos that are new to a file that is there."),
    ] = False,
    ray: Annotated[
        str | None, typer.Option(help="With --out: address of a Ray cluster, or local.")
    ] = None,
) -> None:
    """Classify files without a server.

    The status is 1 where any photo was bad. With --out it is 0 once the file is whole, bad photos
    being rows of it, but 1 where all of them were bad, and 130 where the run was stopped; the same
    command then goes on.
    """
    from service.errors import SuperbinError
    from service.settings import load_settings

    try:
        settings = load_settings(model=model, models_dir=models_dir, device=device, site=site)
        if out is None:
            _classify_few(photos, settings, language, json)
        from service.bulk.steps import BulkConfig

        config = BulkConfig(tuple(photos), out, chunk, restart, add, ray, language)
        _classify_many(config, settings, json)
    except SuperbinError as error:
        fail(str(error))


def _classify_few(
    photos: list[str], settings: Settings, language: str | None, json: bool
) -> NoReturn:
    from service.classification import classify_files
    from service.tables import show_results

    for photo in photos:
        if photo == "-" or Path(photo).is_dir():
            fail(f"expected photos, got {photo}: folders and lists need --out results.parquet")
    results = classify_files([Path(photo) for photo in photos], settings, language)
    bad = 0
    if json:
        for result in results:
            bad += result.error is not None
            print(result.as_json(), flush=True)
    else:
        everything = list(results)
        bad = sum(result.error is not None for result in everything)
        show_results(everything)
    raise typer.Exit(1 if bad else 0)


def _classify_many(config: BulkConfig, settings: Settings, json: bool) -> None:
    from service.bulk.run import Stopped, classify_in_bulk
    from service.bulk.summary import show_summary

    try:
        summary = classify_in_bulk(config, settings)
    except Stopped as stopped:
        print(f"superbin: stopped; {stopped}", file=sys.stderr)
        raise typer.Exit(130) from stopped
    show_summary(summary, json)
    if summary.none_answered:
        raise typer.Exit(1)


@app.command()
def models(models_dir: ModelsDirOption = None, json: JsonOption = False) -> None:
    """List the bundles and verify their files; the status is 1 where any is broken."""
    from service.catalogue import list_models, with_default
    from service.errors import SuperbinError
    from service.settings import load_settings
    from service.tables import show_models

    try:
        settings = load_settings(models_dir=models_dir)
    except SuperbinError as error:
        fail(str(error))
    if not settings.models_dir.is_dir():
        fail(f"expected a folder of bundles, got {settings.models_dir}")
    found = with_default(list_models(settings), settings.models[0])
    if json:
        for one in found:
            print_json(one.model_dump(mode="json"))
    elif found:
        show_models(found)
    else:
        print(f"No bundles in {settings.models_dir}", file=sys.stderr)
    raise typer.Exit(1 if any(_is_broken(one) for one in found) else 0)


@app.command()
def sites(
    files: Annotated[
        list[str] | None, typer.Argument(help="Sites to check: files, or names in the folder.")
    ] = None,
    sites_dir: Annotated[Path | None, typer.Option(help="Folder of site files.")] = None,
    kinds: Annotated[
        bool, typer.Option("--kinds", help="Where each kind that the model knows goes.")
    ] = False,
    model: ModelOption = None,
    models_dir: ModelsDirOption = None,
    json: JsonOption = False,
) -> None:
    """List the sites and check their files; the status is 1 where one cannot be used.

    Each has to say where every superclass of the model belongs. Superclasses that no model knows
    and items that this one does not are mentioned: they sort nothing.
    """
    from service.errors import SuperbinError
    from service.settings import load_settings
    from service.site_check import SiteCheck
    from service.tables import show_kinds, show_sites

    try:
        settings = load_settings(sites_dir=sites_dir, model=model, models_dir=models_dir)
        check = SiteCheck(settings.models_dir, settings.models[0])
    except SuperbinError as error:
        fail(str(error))
    folder = settings.sites_dir
    if not files and not folder.is_dir():
        fail(f"expected a folder of site files, got {folder}")
    checked = check.check(files, folder)
    if json:
        for one in checked.sites:
            print_json(one.model_dump(mode="json", by_alias=True))
    show_sites([] if json or kinds else checked.sites, checked.errors)
    if kinds and not json:
        show_kinds(check.kinds(), checked.sites)
    for told in checked.warnings:
        print(f"warning: {told}", file=sys.stderr)
    if not checked.sites and not checked.errors:
        print(f"No site files in {folder}", file=sys.stderr)
    raise typer.Exit(1 if checked.errors else 0)


@app.command()
def key(
    holder: Annotated[str, typer.Argument(help="Who is to hold it: a word for the logs.")],
    admin: Annotated[bool, typer.Option("--admin", help="May change what is served.")] = False,
    reviewer: Annotated[
        bool, typer.Option("--reviewer", help="May see the photos that are kept, and only that.")
    ] = False,
) -> None:
    """Make an API key: shown once, with the line that SUPERBIN_KEYS_FILE needs."""
    from service.keys import NAME, digest_of, new_key

    if not re.fullmatch(NAME, holder):
        fail(f"expected a word of letters, digits, dots, dashes and underscores, got {holder!r}")
    if admin and reviewer:
        fail("expected --admin or --reviewer, got both: an admin's key opens review, too")
    made = new_key()
    section = "admins" if admin else "reviewers" if reviewer else "clients"
    print(f"{holder}'s key, which is stored nowhere:\n  {made}", file=sys.stderr)
    print(f'{section}."{holder}" = "{digest_of(made)}"')  # a line that can be appended


stored_cli.register(app)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] not in OWN:
        for note in add_commands(app):
            print(note, file=sys.stderr)
    try:
        app(given)
    except OSError as error:
        if error.filename is None:
            raise
        # A path that was given and cannot be read or written: its name says more than a traceback.
        print(f"superbin: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def add_commands(to: typer.Typer) -> list[str]:
    """Let every installed package add its commands; says which could not, and why."""
    notes = []
    for entry in entry_points(group=GROUP):
        try:
            entry.load()(to)
        except Exception as error:  # a broken part must not take the rest of the command along
            notes.append(f"superbin: the commands of {entry.name!r} are not available: {error}")
    return notes


def _is_broken(one: ModelInfo | BrokenModel) -> bool:
    return hasattr(one, "error")
