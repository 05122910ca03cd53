"""Rows as CSV that a spreadsheet opens: flat columns, and no cell that would be worked out."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from service.bulk.columns import PROBABILITY
from service.bulk.reading import batches
from service.composition.formats import harmless

CODING = "utf-8-sig"  # without the mark in front, spreadsheets take it for another coding
ROWS = 1024  # made Python of at once
Row = Mapping[str, Any]
Cell = Callable[[Row], Any]


def write_csv(file: IO[bytes], heading: Iterable[str], lines: Iterable[Sequence[Any]]) -> None:
    """A heading and a line for each row (RFC 4180).

    Args:
        file: to write into.
        heading: the columns' names.
        lines: of rows, their cells.
    """
    text = io.TextIOWrapper(file, encoding=CODING, newline="")
    writer = csv.writer(text)
    writer.writerow(heading)
    writer.writerows(lines)
    text.detach()  # flushed; the file is still the caller's


def read_csv(path: Path) -> Iterator[list[str]]:
    """The heading and each row's cells; `write_csv` makes the same bytes of them."""
    with path.open(encoding=CODING, newline="") as lines:
        yield from csv.reader(lines)


def cells_of(parts: Iterable[Path], columns: Mapping[str, Cell]) -> Iterator[list[Any]]:
    """Each row's cells.

    Args:
        parts: Parquet files with the rows.
        columns: as `columns_of` has them.
    """
    for path in parts:
        for rows in batches(path, size=ROWS):
            for row in rows.to_pylist():
                yield [_harmless(cell(row)) for cell in columns.values()]


def columns_of(names: Iterable[str], *, by_site: bool) -> dict[str, Cell]:
    """Each column's heading, and its cell of a row.

    Args:
        names: of the rows' own columns.
        by_site: whether a site's rules sorted them.
    """
    columns: dict[str, Cell] = {
        name: _own(name) for name in ("path", "superclass", "confidence", "decision")
    }
    columns["doubts"] = lambda row: " ".join(one["reason"] for one in row["doubts"] or ())
    if by_site:
        columns |= {
            "bin": _of_sorting("bin"),
            "bin_name": _of_sorting("name"),
            "reasons": lambda row: " ".join(_of_sorting("reasons")(row) or ()),
            "best": _of_sorting("best"),
            "best_probability": _of_sorting("probability"),
        }
    columns |= {f"reference_{one}": _of_reference(one) for one in ("id", "superclass", "subclass")}
    columns |= {"self_weight": _own("self_weight"), "guide": _of_guide}
    columns |= {name: _own(name) for name in names if name.startswith(PROBABILITY)}
    return columns | {name: _own(name) for name in ("error", "model")}


def _own(name: str) -> Cell:
    return lambda row: row[name]


def _of_sorting(name: str) -> Cell:
    return lambda row: (row["sorting"] or {}).get(name)


def _of_guide(row: Row) -> Any:
    """The name of its strongest thing."""
    return (row["guide"] or [{}])[0].get("name")


def _of_reference(name: str) -> Cell:
    """Of the strongest, which comes first."""
    return lambda row: (row["references"] or [{}])[0].get(name)


def _harmless(value: Any) -> Any:
    return harmless(value) if isinstance(value, str) else value
