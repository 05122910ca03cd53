"""`superbin report` and `superbin review`: what servers have counted and kept, without a server."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from service.extras import how_to_install
from service.terminal import fail, write_anything

if TYPE_CHECKING:
    from service.composition.command import Format
    from service.review.database import Database

FORMATS = {".json": "json", ".csv": "csv", ".html": "html", ".htm": "html"}

review = typer.Typer(help="Photos that people have reviewed.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(report)
    app.add_typer(review, name="review")


def report(
    url: Annotated[
        str | None, typer.Option(envvar="SUPERBIN_TALLY_URL", help="Database of the counts.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Time, UTC unless told; a week before --to.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Not included; now.")] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="By commas: hour, day, site, line, camera, model, superclass, bin, reason."
        ),
    ] = None,
    site: Annotated[str | None, typer.Option(help="Only this one; '' is none told.")] = None,
    line: Annotated[str | None, typer.Option(help="Only this one; '' is none told.")] = None,
    format: Annotated[
        Literal["table", "json", "csv", "html"] | None,
        typer.Option(help="By default that of the --out file's name, or else table."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, in place of the screen.")] = None,
) -> None:
    """Counts, shares and estimated contamination, from the database and without a server."""
    from service.errors import SuperbinError
    from service.settings import load_settings

    try:
        settings = load_settings(tally_url=url)
        if settings.tally_url is None:
            fail("expected --url or SUPERBIN_TALLY_URL, and neither is set")
        from service.composition.command import Wish, read_report, told

        wish = Wish(since, until, by, site, line)
        by_name = cast("Format | None", FORMATS.get(out.suffix.lower())) if out else None
        form = format or by_name or "table"
        found = read_report(settings.tally_url, wish, settings.sites_dir, for_file=form == "html")
        if form == "table":
            from service.tables import composition_text

            text = composition_text(found, sys.stdout.isatty() and out is None)
        else:
            text = told(found, form, settings.sites_dir, wish)
        if out is None:
            if form == "table":
                write_anything()
            sys.stdout.write(text)
        else:
            # A spreadsheet takes a file without the mark for one of an older encoding.
            encoding = "utf-8-sig" if form == "csv" else "utf-8"
            out.write_text(text, encoding=encoding, newline="")
    except ImportError as error:
        fail(f"this needs packages that are not installed ({error}): {how_to_install('report')}")
    except UnicodeEncodeError as error:
        fail(
            f"stdout takes {error.encoding} and has no letter for {error.object[error.start]!r}: "
            "name a file with --out, or set PYTHONIOENCODING=utf-8"
        )
    except (SuperbinError, OSError) as error:
        fail(str(error))


@review.command()
def export(
    store: Annotated[str, typer.Argument(help="The store's database, as SUPERBIN_REVIEW_URL.")],
    out: Annotated[Path, typer.Option(help="Folder for the photos and labels.csv.")],
    photos: Annotated[
        str, typer.Option(envvar="SUPERBIN_REVIEW_PHOTOS", help="Where the store's photos lie.")
    ],
    val_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Of those to learn from, kept for val.")
    ] = 0.0,
) -> None:
    """Write reviewed photos as a folder that training reads; held-out ones are its test split."""
    from service.errors import SuperbinError

    try:
        from service.review.export import export as write
        from service.review.opening import read_store

        with read_store(store, photos) as opened:
            found = write(opened, out, val_share)
            counts = opened.counts()
    except ImportError as error:
        fail(f"this needs packages that are not installed ({error}): {how_to_install('review')}")
    except (SuperbinError, OSError) as error:
        fail(str(error))
    told = ", ".join(f"{count} {split}" for split, count in found.splits.items())
    print(f"{sum(found.splits.values())} photos ({told}) in {out}")
    if found.no_refuse:
        print(f"{found.no_refuse} photos of no refuse, which no_refuse.csv lists, there too")
    unseen = counts.photos - counts.reviewed - counts.unsettled - counts.halfway
    print(
        f"left out: {counts.unsettled} on which people do not agree, {counts.no_use} of no use, "
        f"{counts.halfway} that one person reviewed and that wait for a second, "
        f"{unseen} that nobody reviewed; {counts.disputed} of all are disputed by feedback"
    )
    if found.missing:
        print(
            f"warning: {found.missing} of the reviewed photos left out, since their files are "
            f"missing in {photos}",
            file=sys.stderr,
        )


@contextmanager
def _database(store: str) -> Iterator[Database]:
    """A store's database, which has to be there."""
    from service.review.database import Database

    Database(store, made=False).close()
    with closing(Database(store)) as database:
        yield database


@review.command()
def confirm_clock(
    store: Annotated[str, typer.Argument(help="The store's database, as SUPERBIN_REVIEW_URL.")],
) -> None:
    """Say that this machine's time is right, where the service doubts it: photos go by it again."""
    import time

    from service.errors import SuperbinError

    try:
        from service.review import clock

        with _database(store) as database, database.write() as connection:
            now = time.time()
            before = clock.confirm(connection, now)
    except ImportError as error:
        fail(f"this needs packages that are not installed ({error}): {how_to_install('review')}")
    except SuperbinError as error:
        fail(str(error))
    print(
        f"{database.name}: the newest time was {clock.told(before.newest)}, and from now on "
        f"{clock.told(now)} is believed: photos past their days by that are removed within ten "
        "minutes, where the service's clock agrees"
    )


@review.command()
def adopt(
    store: Annotated[str, typer.Argument(help="The store's database, as SUPERBIN_REVIEW_URL.")],
    photos: Annotated[
        str, typer.Option(envvar="SUPERBIN_REVIEW_PHOTOS", help="Where the photos lie.")
    ],
    remove_unlisted: Annotated[
        bool,
        typer.Option("--remove-unlisted", help="Remove photos that the database does not list."),
    ] = False,
) -> None:
    """Let photos belong to this database and no other one: it was moved, or is an older backup."""
    from service.errors import SuperbinError

    try:
        from service.review import ownership
        from service.review.files import PhotoFiles

        with _database(store) as database:
            files = PhotoFiles(photos, made=False)
            found = ownership.adopt(database, files, remove_unlisted=remove_unlisted)
    except ImportError as error:
        fail(f"this needs packages that are not installed ({error}): {how_to_install('review')}")
    except SuperbinError as error:
        fail(str(error))
    print(f"{photos} belongs to {database.name}: it lists {found.listed}, {found.there} are there")
    what = "were removed" if remove_unlisted else "stay there, and are never removed by age"
    print(f"{found.unlisted} photos that it does not list {what}")
