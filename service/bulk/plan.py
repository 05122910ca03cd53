"""What a run is: its photos, frozen when it began, and all that its answers follow from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from service.bulk.inputs import Inputs
from service.bulk.photo_files import Sizes, about
from service.bundle import Bundle, sha256_of
from service.errors import BulkError
from service.results import Sorted
from service.settings import Settings

PLAN = "plan.json"
INPUTS = "inputs"  # paths, each ended by a NUL
PLACES = "places"  # for each of them how many of the rows that are kept come before it
CHUNK = 2048  # photos: a quarter of a minute on two cores, which a kill loses at most
PLACE = np.dtype("<i8")
ANSWERS_FOLLOW_FROM = ("max_photo_bytes", "max_photo_pixels", "device", "doubts")


class Model(BaseModel):
    """Which model answers, to the byte."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    variant: str
    sha256: str  # of the variant's graph
    manifest_sha256: str  # the threshold and the bank's names are there

    @property
    def id(self) -> str:
        """`name/version`."""
        return f"{self.name}/{self.version}"


class Plan(BaseModel):
    """A run's record; it is there once the list of its photos is.

    A run may add to a file that is whole: `photos` are then the new ones alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    run: str
    started: datetime
    sizes: str  # digest of those of all photos that get rows, or have them
    model: Model
    settings: dict[str, Any]
    source: str  # digest of what was named on the command line
    photos: int
    chunk: int
    offsets: tuple[int, ...]  # bytes in the list of photos at which each chunk begins, and its end
    left_out: dict[str, int]
    adds_to: str | None = None  # the run that left the file whose rows are kept
    kept: int = 0  # rows

    @property
    def chunks(self) -> range:
        """Each chunk's number."""
        return range(len(self.offsets) - 1)

    def size(self, chunk: int) -> int:
        """Photos in a chunk."""
        return min(self.chunk, self.photos - chunk * self.chunk)

    def paths(self, folder: Path, chunk: int) -> list[str]:
        """A chunk's photos, as they were named."""
        found = _paths_between(folder, self.offsets[chunk], self.offsets[chunk + 1])
        return [os.fsdecode(path) for path in found]

    def places(self, folder: Path) -> npt.NDArray[np.int64]:
        """[photos]: how many of the rows that are kept come before each new one."""
        return np.fromfile(folder / PLACES, PLACE)


class Frozen(NamedTuple):
    """Photos that were written down, and the bytes at which each chunk of them begins and ends."""

    photos: int
    offsets: tuple[int, ...]


class Moment(NamedTuple):
    """When a run began, and how its photos were then.

    Attributes:
        started: of what is written to a photo after that, the answers may know nothing.
        sizes: digest of what was seen after that of all photos that get rows, or have them.
    """

    started: datetime
    sizes: str


@dataclass(frozen=True)
class Asked:
    """What a command is about, to be held beside what was begun.

    Attributes:
        chunk: photos in each part; None is that of the run that goes on, else `CHUNK`.
        by: a site's rules.
    """

    inputs: Inputs
    model: Model
    settings: Settings
    chunk: int | None = None
    by: Sorted | None = None

    @property
    def answering(self) -> dict[str, Any]:
        """The settings that an answer follows from, and a site's rules."""
        found = {name: getattr(self.settings, name) for name in ANSWERS_FOLLOW_FROM}
        return found | {"site": told_site(self.by)}


def model_of(bundle: Bundle, variant: str | None) -> Model:
    """Which model a verified bundle is."""
    manifest = bundle.manifest
    chosen = variant or manifest.default_variant
    return Model(
        name=manifest.name,
        version=manifest.version,
        variant=chosen,
        sha256=sha256_of(bundle.model_path(chosen)),
        manifest_sha256=bundle.manifest_sha256,
    )


def told_site(by: Sorted | None) -> str | None:
    """Which rules, to the byte, and in which language."""
    if by is None:
        return None
    site = by.rules.site
    told = f"version {site.version}, rules {by.rules.digest}, names in {by.language}"
    return f"{site.site} ({told})"


def make_plan(asked: Asked, folder: Path) -> Plan:
    """Freeze the photos into `folder`, then write the plan beside them.

    Raises:
        BulkError: where the inputs are no photos.
        OSError: where the folder cannot be written.
    """
    frozen = freeze(asked.inputs.paths(), asked.chunk or CHUNK, folder / INPUTS)
    started, sizes = datetime.now(UTC), Sizes()
    for start, end in pairwise(frozen.offsets):
        for path in _paths_between(folder, start, end):
            sizes.add(about(path).size)
    return write_plan(asked, folder, frozen, Moment(started, sizes.told()))


def write_plan(
    asked: Asked,
    folder: Path,
    frozen: Frozen,
    moment: Moment,
    adds_to: str | None = None,
    kept: int = 0,
) -> Plan:
    """Write what a run is, once its photos are frozen.

    Args:
        asked: its inputs have been gone through.
        folder: the run's.
        frozen: its photos.
        moment: when it began.
        adds_to: the run whose file's rows are kept, where it adds to one.
        kept: how many these are.
    """
    plan = Plan(
        run=uuid4().hex,
        started=moment.started,
        sizes=moment.sizes,
        model=asked.model,
        settings=asked.answering,
        source=asked.inputs.digest(),
        photos=frozen.photos,
        chunk=asked.chunk or CHUNK,
        offsets=frozen.offsets,
        left_out=dict(asked.inputs.left_out),
        adds_to=adds_to,
        kept=kept,
    )
    part = folder / f"{PLAN}.tmp"
    with part.open("w", encoding="utf-8") as file:
        file.write(plan.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / PLAN)
    sync_folder(folder)
    return plan


def read_plan(folder: Path) -> Plan | None:
    """That of a run that has begun there.

    Raises:
        BulkError: where it is of another version of this program.
    """
    try:
        return Plan.model_validate_json((folder / PLAN).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise BulkError(
            f"{folder / PLAN} is not of this version: --restart begins anew ({error})"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames in it outlast a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _paths_between(folder: Path, start: int, end: int) -> list[bytes]:
    with (folder / INPUTS).open("rb") as file:
        file.seek(start)
        return file.read(end - start).split(b"\0")[:-1]


def freeze(paths: Iterable[bytes], chunk: int, to: Path) -> Frozen:
    """Write the photos down, and where each chunk of them begins.

    Raises:
        OSError: where they cannot be written.
    """
    photos, at, offsets = 0, 0, []
    with to.open("wb") as file:
        for path in paths:
            if photos % chunk == 0:
                offsets.append(at)
            at += file.write(path + b"\0")
            photos += 1
        file.flush()
        os.fsync(file.fileno())
    return Frozen(photos, (*offsets, at))
