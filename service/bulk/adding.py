"""What is new in folders since a file was whole: found, and frozen as a run that adds to it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from service.bulk.again import check_whole
from service.bulk.inputs import STDIN, Inputs
from service.bulk.merged import has_columns, is_as_left, metadata_of, probabilities_of
from service.bulk.photos import beside_rows, changed_at
from service.bulk.plan import CHUNK, INPUTS, PLACE, PLACES, Asked, Plan, freeze, write_plan
from service.classification import classify_files
from service.errors import BulkError

WITNESSES = 16  # photos with rows that are answered once more
TOLERANCE = 0.01  # in a probability, between one device and another of its kind
Witness = tuple[int, bytes]  # a row's number, and its photo


def check_can_add(inputs: Inputs, *, restart: bool) -> None:
    """See that it can be told what is new.

    Raises:
        BulkError: where it cannot.
    """
    if restart:
        raise BulkError("expected --add or --restart, got both: --restart answers all anew")
    if STDIN in inputs.given:
        raise BulkError(
            "expected folders with --add, got -: what comes over standard input is another list "
            "each time. Give it a file of its own, without --add"
        )


def make_addition(asked: Asked, folder: Path, out: Path, to: pa.Schema) -> Plan | None:
    """Freeze what is new into `folder`, and write the plan beside it; None where nothing is.

    Args:
        asked: its inputs have not been gone through.
        folder: the run's.
        out: a file that a run left whole.
        to: the columns that a run would write now.

    Raises:
        BulkError: where the file's rows cannot be kept, with why.
        OSError: where the folder cannot be written.
    """
    there = metadata_of(out)
    check_whole(replace(asked, inputs=Inputs(asked.inputs.given)), out, there)
    if not has_columns(out, to, by_site=asked.by is not None):
        raise BulkError(
            f"expected the columns of this version in {out}, and it has others: --restart writes "
            "it anew"
        )
    started, kept = datetime.now(UTC), int(there["photos"])  # what is written from now on is told
    witnesses: list[Witness] = []
    found = beside_rows(out, asked.inputs, there["started"])
    new = _apart(_in_time(found, started), folder / PLACES, -(-kept // WITNESSES), witnesses)
    frozen = freeze(new, asked.chunk or CHUNK, folder / INPUTS)
    if not frozen.photos:
        return None
    _check_witnesses(asked, out, witnesses)
    return write_plan(asked, folder, frozen, started, there["run"], kept)


def check_kept(plan: Plan, out: Path) -> None:
    """See that the file which a run adds to is as it was.

    Raises:
        BulkError: where it is not.
    """
    there = metadata_of(out)
    if plan.adds_to is not None and not (
        there.get("run") == plan.adds_to and is_as_left(out, there)
    ):
        raise BulkError(
            f"expected {out} as it was when it was begun to add to it, and it has changed or is "
            "gone: put it back, or --restart begins anew"
        )


def _in_time(
    found: Iterable[tuple[bytes, int, bool]], started: datetime
) -> Iterator[tuple[bytes, int, bool]]:
    """Without new photos that came or changed after the start: they would count as changed later.

    The next command takes them.
    """
    began = started.timestamp()
    return (one for one in found if one[2] or changed_at(one[0]) <= began)


def _apart(
    found: Iterable[tuple[bytes, int, bool]], places: Path, stride: int, witnesses: list[Witness]
) -> Iterator[bytes]:
    """The new photos; their places go to a file, and every so many others to `witnesses`."""
    with places.open("wb") as file:
        for path, row, has_row in found:
            if not has_row:
                file.write(row.to_bytes(PLACE.itemsize, "little"))
                yield path
            elif row % stride == 0:
                witnesses.append((row, path))
        file.flush()
        os.fsync(file.fileno())


def _check_witnesses(asked: Asked, out: Path, witnesses: list[Witness]) -> None:
    """See that photos with rows still get these answers.

    Names and times do not tell one disk from another that is mounted in its place.

    Raises:
        BulkError: where one gets another.
    """
    photos = [Path(os.fsdecode(path)) for _, path in witnesses]
    language = asked.by.language if asked.by else None
    numbers = {row for row, _ in witnesses}
    rows = (one for row, one in enumerate(probabilities_of(out)) if row in numbers)
    for result, row in zip(classify_files(photos, asked.settings, language), rows, strict=True):
        now = None if result.answer is None else result.answer.probabilities
        if not _is_same(now, row):
            raise BulkError(
                f"expected the photos that {out} is about, and {result.photo} has another answer "
                "now than its row, as if this were another folder in its place: --restart writes "
                "it anew"
            )


def _is_same(now: dict[str, float] | None, before: dict[str, float] | None) -> bool:
    if now is None or before is None:
        return now is before
    return all(abs(now[name] - before[name]) <= TOLERANCE for name in now)
