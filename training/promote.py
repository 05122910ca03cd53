"""A candidate becomes the next version where it is worse than the one before on no superclass."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from service.bundle import (
    MANIFEST,
    Bundle,
    Manifest,
    read_bundle,
    record_of,
    sha256_of,
    write_manifest,
)
from training.card import CARD, rename_card
from training.checkpoint import hardware
from training.comparison import TEST, check_alike, compare_on_held_out, compare_on_test
from training.data.folds import read_photos_of
from training.data.photos import PhotoSet
from training.data.review import ReviewFolder, read_review
from training.errors import ConfigError, DataError
from training.export import portable
from training.paired import MARGIN
from training.promotion_report import REPORT, Verdict
from training.versions import in_place, next_version


@dataclass(frozen=True)
class Contest:
    """What is compared, and how.

    Attributes:
        candidate, over: bundle folders, new and old.
        data, superclass_map: labelled photos, of which the test split is used.
        review: folder of reviewed photos, of which those held out are used.
        margin: loss in a superclass's recall that is let pass, of 1.
        report: folder for the report, whatever comes of it.
        dry: whether to compare only.
    """

    candidate: Path
    over: Path
    data: Path
    superclass_map: Path | None = None
    review: ReviewFolder | None = None
    margin: float = MARGIN
    report: Path | None = None
    dry: bool = False


def promote(contest: Contest, command: str) -> bool:
    """Compare; where the candidate passes, write it as the next version. Whether it passed.

    Raises:
        ConfigError: for models that cannot be compared, or are one.
        BundleError, DataError: for what cannot be read.
    """
    if not 0.0 <= contest.margin < 1.0:
        raise ConfigError(f"expected a margin from 0 to below 1, got {contest.margin}")
    old, new = read_bundle(contest.over), read_bundle(contest.candidate)
    verdict = judge(contest, old, new, command)
    print(verdict.text())
    if contest.report:
        verdict.write(contest.report)
    if verdict.refused or contest.dry:
        return not verdict.refused
    out = next_version(contest.over.absolute().parent)
    with in_place(out) as part:
        _copy(new, part, old.manifest.name, out.name)
        verdict.write(part)
        read_bundle(part)  # what the service will do
    print(f"bundle: {out}, with its {REPORT}")
    if out.name != str(int(contest.over.name) + 1 if contest.over.name.isdecimal() else 0):
        print(f"note: {old.id}, which it was compared with, is not the newest version there")
    return True


def judge(contest: Contest, old: Bundle, new: Bundle, command: str) -> Verdict:
    """Compare two bundles on the test split and on held-out reviewed photos.

    Raises:
        ConfigError, DataError: as `promote`; also where too few photos are left that no bank has.
    """
    check_alike(old, new)
    data = read_photos_of(old.manifest, contest.data, contest.superclass_map)
    _check_unlearned(contest, old, new, data)
    compared = [compare_on_test(old, new, data)]
    if contest.review:
        found = read_review(contest.review, old.manifest.superclasses)
        held_out = found.held_out
        if found.held_out_missing:
            raise DataError(
                f"{contest.review}: the files of {found.held_out_missing} held-out reviewed photos "
                "are missing, and without them the comparison says too little; superbin review "
                "export writes a folder of those that are there"
            )
        reviewed = compare_on_held_out(old, new, held_out) if held_out else None
        if reviewed is None:
            print(f"note: {contest.review} has no reviewed photo that is held out")
        else:
            compared.append(reviewed)
    about = {
        "command": portable(command),
        "at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "hardware": hardware("cpu"),
        "old": f"{old.id}, {old.manifest.default_variant}, manifest {_digest(old)}",
        "new": f"{new.id}, {new.manifest.default_variant}, manifest {_digest(new)}",
        "data": f"{data.root.name}, labels {data.summary()['labels_sha256']}",
    }
    refused = [loss for one in compared for loss in one.losses(contest.margin)]
    return Verdict(old.id, new.id, contest.margin, tuple(compared), tuple(refused), about)


def _check_unlearned(contest: Contest, old: Bundle, new: Bundle, data: PhotoSet) -> None:
    """See that the candidate has not learned from the photos of test: it may draw other splits.

    Raises:
        ConfigError: where some of them are of its train or val split.
    """
    theirs = read_photos_of(new.manifest, contest.data, contest.superclass_map)
    learned = {photo.path for photo in theirs.photos if photo.split in ("train", "val")}
    if known := sorted({photo.path for photo in data.split(TEST)} & learned):
        raise ConfigError(
            f"{len(known)} photos that are test by the record of {old.id} are train or val by that "
            f"of {new.id}, first {known[0]}: no figure would mean anything; expected one "
            "data.val_fraction and data.test_fraction in both, or a column split in the labels"
        )


def _digest(bundle: Bundle) -> str:
    return sha256_of(bundle.path / MANIFEST)


def _copy(bundle: Bundle, part: Path, name: str, version: str) -> None:
    """All of a bundle's files under another name and version."""
    old = bundle.manifest
    pictures = {file.name for file in bundle.path.glob("*.png")}
    card = {CARD} if (bundle.path / CARD).is_file() else set()
    for file in {*old.files, *pictures, *card}:
        shutil.copyfile(bundle.path / file, part / file)
    rename_card(part, bundle.id, f"{name}/{version}")
    files = {file: record_of(part / file) for file in old.files}
    fields = {"name": name, "version": version, "files": files}
    write_manifest(part, Manifest.model_validate(old.model_dump() | fields))
