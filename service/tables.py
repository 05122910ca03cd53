"""What the commands show to a person: tables on stdout, what went wrong on stderr."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from service.classification import FileResult
from service.composition.answer import CompositionAnswer
from service.composition.formats import MEASURES, in_words, places_in_words, rows_of
from service.schemas import BrokenModel, Classification, ModelInfo
from service.site_check import Kind
from service.sites import Site
from service.terminal import write_anything

SHOWN_REFERENCES = 3
WIDE = 200  # letters of a line that goes into a file
ANY_WIDTH = 10_000  # a table takes no more than it needs


def show_results(results: Sequence[FileResult]) -> None:
    """A row for each photo that was answered, a line for each that was not."""
    rows = []
    for one in results:
        if (answer := one.answer) is None:
            continue
        seen = [(item.subclass or item.superclass, item.weight) for item in answer.references]
        if answer.guide:
            seen.append((f'guide ("{answer.guide[0].name}")', answer.self_weight))
        seen.sort(key=lambda one: -one[1])
        told = ", ".join(f"{name} {weight:.0%}" for name, weight in seen[:SHOWN_REFERENCES])
        confidence = f"{answer.confidence:.1%}"
        rows.append((one.photo, answer.superclass, confidence, _decision(answer), told))
    _show(("photo", "superclass", "confidence", "decision", "looked at"), rows)
    _complain([f"{one.photo}: {one.error}" for one in results if one.error is not None])


def _decision(answer: Classification) -> str:
    """Where a photo goes, and why it goes to a person."""
    into = answer.sorting.name if answer.sorting else answer.decision
    if answer.decision == "sort":
        return into
    doubts = [doubt.reason for doubt in answer.doubts]
    rules = [one for one in answer.sorting.reasons if one != "doubt"] if answer.sorting else []
    return f"{into}: {', '.join([*rules, *doubts]) or 'not sure enough'}"


def show_models(models: Sequence[ModelInfo | BrokenModel]) -> None:
    """A row for each bundle, and for each broken one a line with the reason."""
    rows, errors = [], []
    for one in models:
        name = f"{one.name}/{one.version}"
        title = f"{name} (default)" if one.default else name
        if isinstance(one, BrokenModel):
            rows.append((title, "broken", "", "", "", ""))
            errors.append(f"{name}: {one.error}")
            continue
        superclasses = ", ".join(one.superclasses)
        size = f"{one.input_height} x {one.input_width}"
        threshold = f"{one.confidence_threshold:.3f}"
        rows.append((title, "verified", superclasses, size, threshold, str(one.bank_items)))
    _show(("bundle", "status", "superclasses", "input", "threshold", "bank"), rows)
    _complain(errors)


def show_sites(sites: Sequence[Site], errors: Sequence[str]) -> None:
    """A row for each site, and a line for each file that is none."""
    rows = [
        (one.site, one.version, ", ".join(one.bins), ", ".join(one.languages), str(len(one.items)))
        for one in sites
    ]
    _show(("site", "version", "bins", "languages", "items"), rows)
    _complain(errors)


def show_kinds(kinds: Sequence[Kind], sites: Sequence[Site]) -> None:
    """A row for each kind of thing, with where it goes at each site."""
    rows = [
        (
            kind.name,
            kind.superclass,
            str(kind.photos),
            *(site.items.get(kind.name) or site.superclasses[kind.superclass] for site in sites),
        )
        for kind in kinds
    ]
    _show(("kind", "superclass", "photos", *(site.site for site in sites)), rows)


def composition_text(report: CompositionAnswer, coloured: bool) -> str:
    """A row for each group, and below them the whole in one line."""
    numbers = set(MEASURES)
    whole = f"share of {', '.join(report.share_of) or 'all'}"
    columns = [
        Column(
            whole if name == "share" else name,
            overflow="fold",
            justify="right" if name in numbers else "left",
        )
        for name in (*report.by, *MEASURES)
    ]
    table = Table(*columns)
    for cells in rows_of(report):
        table.add_row(*map(Text, cells))
    console = Console(file=io.StringIO(), force_terminal=coloured, width=None if coloured else WIDE)
    if report.rows:
        console.print(table)
    console.print(Text(in_words(report.total)), soft_wrap=True)
    if told := places_in_words(report):
        console.print(Text(told), soft_wrap=True)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def _show(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    # What does not fit is folded: half a name is no name.
    table = Table(*(Column(heading, overflow="fold") for heading in headings))
    for row in rows:
        table.add_row(*map(Text, row))
    write_anything()
    # A file, or grep, gets each row in one line.
    Console(width=None if sys.stdout.isatty() else ANY_WIDTH).print(table)


def _complain(errors: Sequence[str]) -> None:
    console = Console(stderr=True)
    for error in errors:
        console.print(Text.assemble(("error: ", "red"), error), soft_wrap=True)
