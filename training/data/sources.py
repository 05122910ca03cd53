"""Where public datasets come from: the facts in `sources.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.errors import DataError

SOURCES = Path(__file__).parent / "sources.toml"
Checksum = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|md5:[0-9a-f]{32})$")]


class Archive(BaseModel):
    """A tar file that anybody may fetch.

    Attributes:
        url: where it is.
        bytes: its size.
        checksum: as somebody publishes it: `sha256:` or `md5:` and the digest in hexadecimal.
        holds: the folder in it that is the dataset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, Field(pattern=r"^https?://")]
    bytes: Annotated[int, Field(gt=0)]
    checksum: Checksum
    holds: str


class Source(BaseModel):
    """A public dataset.

    Attributes:
        title: its name.
        page: its official page, with its terms.
        archive: what is fetched.
        ask: without one: why, where to ask, and what to put where.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    page: str
    archive: Archive | None = None
    ask: str = ""

    @model_validator(mode="after")
    def _one_way(self) -> Source:
        if (self.archive is None) == (not self.ask):
            raise ValueError("expected either an archive or what to ask for")
        return self


def source_named(name: str) -> Source:
    """The facts about a dataset.

    Raises:
        DataError: where there is none of that name.
    """
    record = tomllib.loads(SOURCES.read_text(encoding="utf-8"))
    if name not in record:
        raise DataError(f"expected a dataset of {', '.join(sorted(record))}, got {name!r}")
    return Source.model_validate(record[name])
