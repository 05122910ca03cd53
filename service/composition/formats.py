"""An answer as JSON, and as CSV that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime

from service.composition.answer import CompositionAnswer, CompositionFigures

MEASURES = ("photos", "share", "manual", "alerts", "expected_wrong", "contamination")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # how a cell begins that would be worked out


def as_json(answer: CompositionAnswer, *, in_ascii: bool = False) -> str:
    """One document; columns that were not asked for are left out.

    Args:
        in_ascii: whether other letters are escaped, for a stdout that may not have them.
    """
    return answer.model_dump_json(exclude_unset=True, ensure_ascii=in_ascii)


def as_csv(answer: CompositionAnswer) -> str:
    """A heading and a line for each row (RFC 4180); nothing where nothing is known."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*answer.by, *MEASURES])
    for cells in rows_of(answer):
        writer.writerow(map(harmless, cells))
    return text.getvalue()


def rows_of(answer: CompositionAnswer) -> Iterator[list[str]]:
    """Every row's cells, under `by` and `MEASURES`."""
    for row in answer.rows:
        yield [_cell(getattr(row, name)) for name in (*answer.by, *MEASURES)]


def harmless(cell: str) -> str:
    """With an apostrophe before what a spreadsheet would run (OWASP, "CSV Injection")."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def in_words(figures: CompositionFigures) -> str:
    """The whole in one line."""
    into_bins = figures.photos - figures.manual
    told = f"{figures.photos:,} photos: {into_bins:,} into bins, {figures.manual:,} to a person"
    if figures.contamination is not None:
        told += (
            f"; {figures.expected_wrong:,.1f} of those in bins are expected to belong elsewhere "
            f"({figures.contamination:.2%})"
        )
    return told + (f"; {figures.alerts:,} alerts" if figures.alerts else "")


def places_in_words(answer: CompositionAnswer) -> str:
    """Where photos came from instead; empty where that is not told."""
    if not answer.places:
        return ""
    lines: dict[str, list[str]] = {}
    for one in answer.places:
        lines.setdefault(one.site or "no site", []).append(one.line or "no line")
    told = ", ".join(f"{site} ({', '.join(those)})" for site, those in lines.items())
    return f"In this time photos came from: {told}"
