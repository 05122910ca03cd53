"""Where a photo comes from: site, line and camera, as a client tells them in the query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from service.errors import SuperbinError

TAG = re.compile(r"[A-Za-z0-9._-]{1,64}")
NAMES = ("site", "line", "camera")


class TagMalformed(SuperbinError):
    """A tag that is no short word."""

    reason = "malformed_tag"


@dataclass(frozen=True, slots=True)
class Tags:
    """Each is None where it was not told."""

    site: str | None = None
    line: str | None = None
    camera: str | None = None


UNTOLD = Tags()


def read_tags(query: Mapping[str, str]) -> Tags:
    """The tags among a request's query parameters.

    Raises:
        TagMalformed: naming the parameter, what was expected and what came.
    """
    told = {name: query[name] for name in NAMES if name in query}
    for name, tag in told.items():
        if not TAG.fullmatch(tag):
            raise TagMalformed(
                f"{name}: expected 1 to 64 letters, digits, dots, dashes and underscores, "
                f"got {tag[:80]!r}"
            )
    return Tags(**told) if told else UNTOLD
