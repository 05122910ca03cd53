"""How many photos were answered how, for the summary of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from service.bulk.reading import batches

COLUMNS = ["superclass", "decision", "error", "doubts", "sorting.bin", "sorting.reasons"]


class Counts(BaseModel):
    """Photos by answer; what no photo has is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bad: int
    superclasses: dict[str, int]
    bins: dict[str, int]  # of the site, and `manual`; empty without one
    decisions: dict[str, int]
    reasons: dict[str, int]  # of the site, why a person has to look; a photo may have several
    doubts: dict[str, int]  # by reason; a photo may have several


def together(one: Counts, other: Counts) -> Counts:
    """Over the photos of both, the most frequent first."""
    found = {
        name: dict((Counter(getattr(one, name)) + Counter(getattr(other, name))).most_common())
        for name in Counts.model_fields
        if name != "bad"
    }
    return Counts(bad=one.bad + other.bad, **found)


def count(parts: Iterable[Path]) -> Counts:
    """Over files of rows, the most frequent first."""
    bad = 0
    found: dict[str, Counter[str]] = {
        name: Counter() for name in Counts.model_fields if name != "bad"
    }
    for part in parts:
        for rows in batches(part, COLUMNS):
            bad += len(rows) - rows["error"].null_count
            for name, values in _words(rows).items():
                for one in values.drop_null().value_counts().to_pylist():
                    found[name][one["values"]] += one["counts"]
    return Counts(bad=bad, **{name: dict(one.most_common()) for name, one in found.items()})


def _words(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    sorting = rows["sorting"]
    return {
        "superclasses": rows["superclass"],
        "bins": pc.struct_field(sorting, "bin"),
        "decisions": rows["decision"],
        "reasons": pc.list_flatten(pc.struct_field(sorting, "reasons")),
        "doubts": pc.struct_field(pc.list_flatten(rows["doubts"]), "reason"),
    }
