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
from service.bulk.merged import has_columns, is_as_left, metadata_of
from service.bulk.photos import beside_rows, changed_at
from service.bulk.plan import CHUNK, INPUTS, PLACE, PLACES, Asked, Plan, freeze, write_plan
from service.bulk.witnesses import Witnesses
from service.errors import BulkError


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
    witnesses = Witnesses(kept)
    found = beside_rows(out, asked.inputs, there["started"])
    new = _apart(_in_time(found, started), folder / PLACES, witnesses)
    frozen = freeze(new, asked.chunk or CHUNK, folder / INPUTS)
    if not frozen.photos:
        return None
    witnesses.check(asked, out)
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
    found: Iterable[tuple[bytes, int, bool]], places: Path, witnesses: Witnesses
) -> Iterator[bytes]:
    """The new photos, whose places go to a file; the others are shown to `witnesses`."""
    with places.open("wb") as file:
        for path, row, has_row in found:
            if has_row:
                witnesses.see(row, path)
            else:
                file.write(row.to_bytes(PLACE.itemsize, "little"))
                yield path
        file.flush()
        os.fsync(file.fileno())
