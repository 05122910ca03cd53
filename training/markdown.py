"""Tables in Markdown (GitHub's), whatever letters the names in their cells have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A heading and a line for each row."""
    return "\n".join([_line(head), "|---" * len(head) + "|", *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """On one line; a bar, which would end the cell, is escaped (GFM, "Tables")."""
    return " ".join(text.splitlines()).replace("|", "\\|")
