"""Which of a site's languages a client reads: `Accept-Language` (RFC 9110, section 12.5.4)."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 20  # languages that are looked at


def pick_language(accepted: str | None, offered: Sequence[str]) -> str:
    """The offered language that is liked best; the first one where none is.

    Args:
        accepted: the header, such as `de-AT, de;q=0.9, en;q=0.5`; what cannot be read is skipped.
        offered: at least one.
    """
    liked = sorted(map(_range, (accepted or "").split(",")[:MOST]), key=lambda one: -one[1])
    for wanted, quality in liked:
        if quality <= 0.0 or not wanted:
            continue
        for language in offered:
            if wanted == "*" or _matches(wanted, language.lower()):
                return language
    return offered[0]


def _matches(wanted: str, language: str) -> bool:
    """`de-at` is content with `de`, and `de` with `de-at`."""
    return wanted.split("-")[0] == language.split("-")[0] and (
        wanted == language or "-" not in wanted or "-" not in language
    )


def _range(part: str) -> tuple[str, float]:
    name, _, parameter = part.partition(";")
    key, _, value = parameter.strip().partition("=")
    try:
        quality = float(value) if key.strip().lower() == "q" else 1.0
    except ValueError:
        quality = 0.0
    return name.strip().lower(), min(1.0, quality)
