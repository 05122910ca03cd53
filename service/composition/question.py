"""What is asked of the counts, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Question:
    """What of the counts is asked for.

    Attributes:
        since, until: seconds since 1970; hours that begin from `since` on and before `until`.
        by: columns of the counts, or `day` (UTC), that tell groups apart.
        site, line: only these; "" is what was not told; None is all.
    """

    since: int
    until: int
    by: tuple[str, ...]
    site: str | None = None
    line: str | None = None


@dataclass(frozen=True)
class Group:
    """Counts that were added up; `of` has a value for each of the question's `by`."""

    of: dict[str, Any]
    photos: int
    manual: int
    alerts: int
    expected_wrong: float
