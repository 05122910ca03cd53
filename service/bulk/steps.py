"""What a command has to do: go on with a run, begin one, or add what is new; often nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from service.bulk.adding import check_kept, make_addition
from service.bulk.again import check_same, check_whole
from service.bulk.inputs import Inputs
from service.bulk.merged import finish, metadata_of
from service.bulk.parts import clear, parts_folder
from service.bulk.photos import check_photos
from service.bulk.plan import Asked, Plan, make_plan, read_plan
from service.errors import BulkError, SuperbinError

P = TypeVar("P", bound=Plan | None)


@dataclass(frozen=True)
class BulkConfig:
    """What was asked for.

    Attributes:
        given: folders, lists (`-` is standard input), photos.
        out: the file to write, Parquet or CSV by its suffix.
        chunk: photos in each part; None goes on as it was begun.
        restart: forget what was done before, and a result that is there.
        add: to a result that is there, what is new since.
        ray: address of a Ray cluster, or `local`; None is this process alone.
        language: of the bins' names, where the settings name a site.
    """

    given: tuple[str, ...]
    out: Path
    chunk: int | None = None
    restart: bool = False
    add: bool = False
    ray: str | None = None
    language: str | None = None


def steps(config: BulkConfig, asked: Asked, to: pa.Schema) -> Iterator[Plan]:
    """Each run that is to be brought to its end, which it has to be before the next is asked for.

    Args:
        config: what was asked for.
        asked: the same, with the model and the settings.
        to: the columns of a row.

    Raises:
        BulkError: where what is there is about something else.
    """
    folder, out = parts_folder(config.out), config.out
    plan = None if config.restart else read_plan(folder)
    if plan is not None and not _has_ended(plan, folder, out):
        check_same(asked, plan)
        check_kept(plan, out)
        yield plan
        if not config.add:
            return
    elif config.restart or not out.exists():
        yield _begun(folder, lambda: make_plan(asked, folder))
        return
    anew = replace(asked, inputs=Inputs(config.given))
    if config.add:
        addition = _begun(folder, lambda: make_addition(anew, folder, out, to))
        if addition is not None:
            yield addition
        return
    try:
        check_whole(asked, out, there := metadata_of(out))
        check_photos(out, anew.inputs, there)
    except SuperbinError:
        clear(folder)
        raise


def _has_ended(plan: Plan, folder: Path, out: Path) -> bool:
    """Whether all that was left to do for a run is to remove its parts."""
    finish(folder, plan, out)
    return plan.run == metadata_of(out).get("run")


def _begun(folder: Path, make: Callable[[], P]) -> P:
    """A plan, or no trace of it."""
    clear(folder, keep_lock=True)
    try:
        return make()
    except OSError as error:
        clear(folder)
        raise BulkError(f"cannot write into {folder}: {error.strerror}") from error
    except SuperbinError:
        clear(folder)
        raise
