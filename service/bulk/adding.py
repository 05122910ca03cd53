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
from service.bulk.photo_files import Sizes
from service.bulk.photos import Found, beside_rows
from service.bulk.plan import CHUNK, INPUTS, PLACE, PLACES, Asked, Moment, Plan, freeze, write_plan
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
    witnesses, sizes = Witnesses(kept), Sizes()
    found = beside_rows(out, asked.inputs, there)
    new = _apart(_in_time(found, started), folder / PLACES, witnesses, sizes)
    frozen = freeze(new, asked.chunk or CHUNK, folder / INPUTS)
    if not frozen.photos:
        return None
    witnesses.check(asked, out)
    moment = Moment(started, sizes.told())
    return write_plan(asked, folder, frozen, moment, there["run"], kept)


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


def _in_time(found: Iterable[Found], started: datetime) -> Iterator[Found]:
    """Without new photos that came or changed after the start: they would count as changed later.

    The next command takes them.
    """
    began = started.timestamp()
    return (one for one in found if one.has_row or one.about.changed <= began)


def _apart(
    found: Iterable[Found], places: Path, witnesses: Witnesses, sizes: Sizes
) -> Iterator[bytes]:
    """The new photos, whose places go to a file; the others are shown to `witnesses`.

    All are added to `sizes`.
    """
    with places.open("wb") as file:
        for one in found:
            sizes.add(one.about.size)
            if one.has_row:
                witnesses.see(one.row, one.path)
            else:
                file.write(one.row.to_bytes(PLACE.itemsize, "little"))
                yield one.path
        file.flush()
        os.fsync(file.fileno())
