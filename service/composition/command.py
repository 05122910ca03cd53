"""`superbin report`: a report straight from the database, without a server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from service.composition.answer import By, CompositionAnswer, ReportMalformed
from service.composition.document import BY, as_html
from service.composition.formats import as_csv, as_json
from service.composition.report import COLUMNS, DEFAULT_BY, answer, ask, read_time
from service.composition.store import CompositionStore
from service.sites import SiteError, find_sites, read_site
from service.tags import TAG

Format = Literal["table", "json", "csv", "html"]

NO_LIMIT = 2**40  # rows
HOURLY_DAYS = 60  # beyond them a file has days
SQLITE = re.compile(r"sqlite(\+\w+)?:///([^?]+)")


@dataclass(frozen=True)
class Wish:
    """What is to be reported, as it was typed: times in ISO 8601, columns by commas."""

    since: str | None = None
    until: str | None = None
    by: str | None = None
    site: str | None = None
    line: str | None = None


def read_report(
    url: str, wish: Wish, sites_dir: Path, *, for_file: bool = False
) -> CompositionAnswer:
    """Ask the database.

    Args:
        sites_dir: of the site files, which tell of sites that nothing came from.
        for_file: with what the HTML file draws; then `by` cannot be wished for.

    Raises:
        StoreError, CompositionUnavailable: where it cannot be opened.
        ReportMalformed, SiteUncounted: where something was mistyped.
    """
    since, until = (None if one is None else read_time(one) for one in (wish.since, wish.until))
    for name, tag in (("--site", wish.site), ("--line", wish.line)):
        if tag and not TAG.fullmatch(tag):
            raise ReportMalformed(
                f"{name}: expected letters, digits, dots, dashes and underscores, got {tag!r}"
            )
    if for_file and wish.by is not None:
        raise ReportMalformed("--by: an HTML file has groups of its own; leave it out")
    question = ask(since, until, _columns(wish.by), wish.site, wish.line)
    if for_file:
        hourly = question.until - question.since <= HOURLY_DAYS * 86_400
        times: tuple[By, ...] = ("hour",) if hourly else ("day",)
        question = ask(since, until, (*times, *cast("tuple[By, ...]", BY)), wish.site, wish.line)
    store = CompositionStore(url, made=False)
    try:
        return answer(store, question, NO_LIMIT, [file.stem for file in _site_files(sites_dir)])
    finally:
        store.close()


def told(report: CompositionAnswer, form: Format, sites_dir: Path, wish: Wish) -> str:
    """A report in one of the formats that are text; not `table`."""
    if form == "csv":
        return as_csv(report)
    if form == "json":
        return as_json(report, in_ascii=True) + "\n"
    sites = []
    for file in _site_files(sites_dir):
        try:
            sites.append(read_site(file)[0])
        except SiteError:  # its bins have no names then
            continue
    return as_html(report, sites, wish.line)


def _site_files(folder: Path) -> list[Path]:
    return find_sites(folder) if folder.is_dir() else []


def _columns(by: str | None) -> tuple[By, ...]:
    if by is None:
        return DEFAULT_BY
    names = [one.strip() for one in by.split(",")]
    strays = [one for one in names if one not in COLUMNS]
    if strays:
        raise ReportMalformed(f"--by: expected some of {', '.join(COLUMNS)}, got {strays}")
    return cast("tuple[By, ...]", tuple(names))
