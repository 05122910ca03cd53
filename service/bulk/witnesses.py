"""Photos that have rows, answered once more: names and times do not tell one disk from another."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from service.bulk.columns import PROBABILITY
from service.bulk.merged import CSV
from service.bulk.plan import Asked
from service.bulk.reading import batches
from service.bulk.spreadsheet import read_csv
from service.classification import classify_files
from service.composition.formats import harmless
from service.errors import BulkError
from service.schemas import Classification

WITNESSES = 16
TOLERANCE = 0.01  # in a probability or a weight, between one device and another of its kind


class Answer(NamedTuple):
    """What a row says of its photo, in Parquet and in CSV."""

    probabilities: dict[str, float]  # by superclass
    reference: str | None  # the strongest one's id


class Witnesses:
    """Some photos, spread evenly over a file's rows."""

    def __init__(self, kept: int) -> None:
        """Choose the rows; `kept` is how many there are."""
        count = min(WITNESSES, kept)
        self.rows = frozenset(number * kept // count for number in range(count))
        self._photos: list[Path] = []

    def see(self, row: int, photo: bytes) -> None:
        """Be told each row's photo, in their order."""
        if row in self.rows:
            self._photos.append(Path(os.fsdecode(photo)))

    def check(self, asked: Asked, out: Path) -> None:
        """See that they still get their rows' answers.

        Raises:
            BulkError: where one gets another.
        """
        language = asked.by.language if asked.by else None
        results = classify_files(self._photos, asked.settings, language)
        for result, before in zip(results, _answers_at(out, self.rows), strict=True):
            if not _is_same(result.answer, before):
                raise BulkError(
                    f"expected the photos that {out} is about, and {result.photo} has another "
                    "answer now than its row, as if this were another folder in its place: "
                    "--restart writes it anew"
                )


def _is_same(now: Classification | None, before: Answer | None) -> bool:
    """Whether two answers are of one photo; of references that are alike either may be first."""
    if now is None or before is None:
        return now is None and before is None
    weights = {harmless(one.id): one.weight for one in now.references}
    strongest = max(weights.values(), default=0.0)
    return strongest - weights.get(before.reference or "", 0.0) <= TOLERANCE and all(
        abs(now.probabilities[name] - value) <= TOLERANCE
        for name, value in before.probabilities.items()
    )


def _answers_at(out: Path, numbers: Collection[int]) -> Iterator[Answer | None]:
    """Of the rows with these numbers, in their order; None of a bad photo."""
    for row in _lines_at(out, numbers) if out.suffix == CSV else _rows_at(out, numbers):
        found = {
            name.removeprefix(PROBABILITY): float(value)
            for name, value in row.items()
            if name.startswith(PROBABILITY) and value not in (None, "")
        }
        reference = row["reference_id"]
        yield Answer(found, reference and harmless(reference)) if found else None


def _lines_at(out: Path, numbers: Collection[int]) -> Iterator[dict[str, Any]]:
    lines = read_csv(out)
    heading = next(lines)
    for number, line in enumerate(lines):
        if number in numbers:
            yield dict(zip(heading, line, strict=True))


def _rows_at(out: Path, numbers: Collection[int]) -> Iterator[dict[str, Any]]:
    columns = [name for name in pq.read_schema(out).names if name.startswith(PROBABILITY)]
    start = 0
    for batch in batches(out, [*columns, "references"]):
        at = [number - start for number in sorted(numbers) if 0 <= number - start < len(batch)]
        for row in batch.take(pa.array(at, pa.int64())).to_pylist():
            (reference, *_) = row.pop("references") or [{}]
            yield row | {"reference_id": reference.get("id")}
        start += len(batch)
