"""`superbin classify ... --out`: freeze the photos, answer chunk by chunk, merge."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from service.bulk.adding import check_can_add
from service.bulk.cluster import connected, find_ray
from service.bulk.columns import schema
from service.bulk.counts import Counts
from service.bulk.inputs import Inputs
from service.bulk.local import Seen, Station, on_this_machine
from service.bulk.merged import CSV, PARQUET, merge, metadata_of
from service.bulk.parts import (
    bad_in,
    clear,
    is_done,
    parts_folder,
    write_part,
)
from service.bulk.plan import Asked, Plan, model_of
from service.bulk.steps import BulkConfig, steps
from service.bundle import Bundle
from service.catalogue import open_bundle
from service.classification import answering_for, sorted_by
from service.errors import BulkError, SuperbinError
from service.interruption import stop_requested
from service.locks import locked
from service.models_folder import resolve_bundle
from service.progress import track
from service.results import Sorted
from service.settings import Settings


@dataclass(frozen=True)
class Summary:
    """What came of a run; `here` photos in `seconds` are this command's."""

    out: str
    photos: int
    counts: Counts
    bin_names: dict[str, str]  # of the site's bins that came up, and of `manual`
    left_out: dict[str, int]  # files of folders, by suffix
    here: int
    seconds: float
    added: int | None = None  # of them, to a file that was there; None where nobody asked for it

    @property
    def none_answered(self) -> bool:
        """Whether every photo was bad, as of a list of what are no photos."""
        return self.counts.bad == self.photos


class Stopped(Exception):
    """Asked to stop; says how far it came, which is kept."""

    def __init__(self, done: int, photos: int) -> None:
        super().__init__(
            f"{done:,} of {photos:,} photos are done; the same command, without --restart, goes on"
        )


def classify_in_bulk(config: BulkConfig, settings: Settings) -> Summary:
    """Answer all photos into one file, or go on with that.

    Raises:
        SuperbinError: with what is wrong; what was done is kept.
        Stopped: after SIGINT or SIGTERM, once what was begun is written.
    """
    started = time.monotonic()
    _check_out(config.out)
    if config.ray is not None:
        find_ray(config.ray)  # before a million photos are listed
    inputs = Inputs(config.given)
    if config.add:
        check_can_add(inputs, restart=config.restart)
    bundle = open_bundle(resolve_bundle(settings.models_dir, settings.models[0]))
    by = sorted_by(settings, config.language)
    answering_for(bundle.manifest, settings, by)  # before anything is begun
    asked = Asked(inputs, model_of(bundle, settings.variant_of(bundle)), settings, config.chunk, by)
    folder, to = parts_folder(config.out), schema(bundle.manifest.superclasses)
    here, added = 0, 0 if config.add else None
    with locked(folder):
        for plan in steps(config, asked, to):
            to_do = [chunk for chunk in plan.chunks if not is_done(folder, plan, chunk)]
            if to_do:
                _answer(config, plan, to_do, bundle, asked)
            merge(folder, plan, to, config.out)
            here += sum(map(plan.size, to_do))
            if plan.adds_to is not None:
                added = (added or 0) + plan.photos
        clear(folder)
    seconds = time.monotonic() - started
    return _summary(config, by, here, seconds, added)


def _check_out(out: Path) -> None:
    if not out.parent.is_dir():
        raise BulkError(f"expected a folder to write {out} into, and {out.parent} is none")
    if out.is_dir():
        raise BulkError(f"expected a file's name for the results, got the folder {out}")
    if out.suffix not in (PARQUET, CSV):
        raise BulkError(
            f"expected a Parquet or CSV file for the results, such as r{PARQUET} or r{CSV}, got "
            f"{out}"
        )


def _answer(
    config: BulkConfig, plan: Plan, to_do: Sequence[int], bundle: Bundle, asked: Asked
) -> None:
    """Write the parts that are missing.

    Raises:
        Stopped: where some still are.
    """
    left, folder = sum(map(plan.size, to_do)), parts_folder(config.out)
    bad = sum(bad_in(folder, chunk) for chunk in set(plan.chunks) - set(to_do))

    def seen(done: int, of_them_bad: int) -> None:
        nonlocal bad
        bad += of_them_bad
        advance(done)

    def state() -> str:
        return f"{bad:,} bad" + (", stopping once what was begun is written" if stop else "")

    with ExitStack() as stack:
        try:
            rows = _source(config, plan, bundle, asked, stack)
        except SuperbinError:
            if len(to_do) == len(plan.chunks):  # nothing to keep, and another device may be next
                clear(folder)
            raise
        stop = stack.enter_context(stop_requested())
        tracked = track("photos", plan.photos, plan.photos - left, state)
        advance = stack.enter_context(tracked)
        for chunk, table in stack.enter_context(closing(rows(to_do, stop, seen))):
            write_part(folder, plan, chunk, table)
            left -= plan.size(chunk)
    if left:
        raise Stopped(plan.photos - left, plan.photos)


Rows = Callable[[Sequence[int], Sequence[int], Seen], Generator[tuple[int, pa.Table], None, None]]


def _source(config: BulkConfig, plan: Plan, bundle: Bundle, asked: Asked, stack: ExitStack) -> Rows:
    """Where rows come from, (chunks, stop, seen) to (chunk, rows): this process, or a cluster."""
    folder = parts_folder(config.out)
    if config.ray is not None:
        cluster = stack.enter_context(
            connected(config.ray, bundle.path, plan, asked.settings, asked.by)
        )
        return lambda chunks, stop, seen: cluster.tables(plan, folder, chunks, stop, seen)
    station = Station(bundle.path, asked.settings, asked.by)
    return lambda chunks, stop, seen: on_this_machine(station, plan, folder, chunks, stop, seen)


def _summary(
    config: BulkConfig, by: Sorted | None, here: int, seconds: float, added: int | None
) -> Summary:
    told = metadata_of(config.out)
    counts, left_out = Counts.model_validate_json(told["counts"]), json.loads(told["left_out"])
    names = {one: by.rules.site.place(one).name[by.language] for one in counts.bins} if by else {}
    photos = int(told["photos"])
    return Summary(str(config.out), photos, counts, names, left_out, here, seconds, added)
