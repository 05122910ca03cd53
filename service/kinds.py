"""Kinds of thing, as people spell them and as they are known: a misspelt one is a new one."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

KIND = "letters, digits, spaces and any of _ - . , & ' ( ) +, beginning with a letter or a digit"
MOST_NEAR = 3
ALIKE = 0.75  # of difflib's ratio: `batery` and `battery` have 0.92, `paper` and `apple` 0.6


def is_kind(text: str) -> bool:
    """Whether a text is fit to name a kind (`KIND`): no path, no formula, nothing invisible.

    It will be a folder's name, and a cell of a table.
    """
    parts = [unicodedata.category(one)[0] for one in text]
    fit = all(part in "LMN" or one in " _-.,&'()+" for one, part in zip(text, parts, strict=True))
    return fit and bool(parts) and parts[0] in "LN"


def plain_kind(kind: str) -> str:
    """Without what spelling alone makes different: `Glass-bottle` is `glass_bottle`."""
    return "_".join(kind.lower().replace("-", " ").replace("_", " ").split())


def near_kinds(kind: str, known: Iterable[str]) -> list[str]:
    """Up to three known kinds that are spelt almost so, the nearest first."""
    spelt = {plain_kind(one): one for one in known}
    near = difflib.get_close_matches(plain_kind(kind), spelt, MOST_NEAR, ALIKE)
    return [spelt[one] for one in near]
