"""Instant correction: reviewed photos join a bundle's bank, items leave it; nothing is trained.

The graphs stay as they are, byte by byte; the bank is written beside them (`service.bank`) and
becomes part of a new version. What depends on the bank and is not made anew here is dropped.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from service.bank import BANK, write_bank
from service.bundle import (
    MANIFEST,
    Bundle,
    Correction,
    Manifest,
    read_bundle,
    record_of,
    sha256_of,
    write_manifest,
)
from service.classifier import Classifier
from service.preprocess import Pixels
from service.sites import SHIPPED, SiteError, find_sites, read_site, site_kinds
from training.background_change import grow_by_folder, unfamiliar
from training.background_review import join_background, take_out_foreign, unsorted
from training.bank_change import Change, Seen, check_change, join, see, some, take_out
from training.bank_keys import key_maker
from training.carried import (
    KEPT,
    dropped_parts,
    optional_parts,
    with_carried_familiarity,
    with_new_drift,
)
from training.correction_card import write_corrected_card
from training.data.folds import read_photos_of
from training.data.photos import PhotoSet
from training.data.review import Reviewed, ReviewFolder, read_review, without_measured
from training.errors import ConfigError
from training.export import portable
from training.kind_warnings import kind_warnings
from training.recheck import recheck
from training.self_test import with_self_test
from training.served_bank import MATCHING, served_bank
from training.versions import check_place, in_place, newer_than, who_takes_it

IN_BANK = ", which the bank now has: how it does with new ones only photos that are held out tell"
MOST_REVIEWED = 1000  # items, by default: the answer to more is to train


@dataclass(frozen=True)
class Order:
    """What is to be done to a bundle's bank.

    Attributes:
        bundle, out: the version to begin from, and the one to write.
        review: folder of reviewed photos (`training.data.review`); those of no refuse join the
            background.
        remove, remove_kinds: ids and subclasses of items that leave the bank.
        background: folder of pictures of what is of no superclass.
        weight: how many items of the original bank a reviewed one counts as (matching only).
        most: reviewed items that the bank may have.
        run: the training run, for SCLRE.
        data, superclass_map: labelled photos to measure the new version with.
        recalibrate: whether the threshold is fitted anew on val; else it is only checked.
        sites_dir: of site files, whose kinds are known as those of the bank are.
    """

    bundle: Path
    out: Path
    review: ReviewFolder | None = None
    remove: tuple[str, ...] = ()
    remove_kinds: tuple[str, ...] = ()
    background: Path | None = None
    weight: float | None = None
    most: int = MOST_REVIEWED
    run: Path | None = None
    data: Path | None = None
    superclass_map: Path | None = None
    recalibrate: bool = False
    sites_dir: Path = SHIPPED


def correct_bundle(order: Order, command: str) -> None:
    """Write the version `order.out`.

    Raises:
        ConfigError: where nothing would change, or too much; for a method without such a bank.
        BundleError, DataError, RunError: for what cannot be read.
    """
    if order.recalibrate and order.data is None:
        raise ConfigError("--recalibrate: expected --data, whose val the threshold is fitted on")
    check_place(order.out)
    parent = read_bundle(order.bundle)
    if order.out.absolute().parent.name != parent.manifest.name:
        raise ConfigError(
            f"expected a version of {parent.manifest.name}, <models>/{parent.manifest.name}/"
            f"<version>, got {order.out}"
        )
    data = None
    if order.data is not None:
        data = read_photos_of(parent.manifest, order.data, order.superclass_map)
    reviewed = _read(order, parent.manifest, data)
    for warning in _odd_kinds(order, parent.manifest, reviewed):
        print(warning, file=sys.stderr)
    change, learned, told = _change(order, parent, reviewed)
    held_out = 0
    if order.background is not None:
        grown = grow_by_folder(change.bank, parent, order.background)
        change = replace(change, bank=grown.bank, background=grown.added)
        told += grown.told()
    if reviewed is not None:
        change, lines = join_background(change, parent, reviewed)
        told += lines
        held_out = len(reviewed.held_out) + len(reviewed.no_refuse_held_out)
    check_change(change, parent, order.most, held_out, told)
    with in_place(order.out) as part:
        manifest = _begin(part, order, parent, change, command)
        if parent.manifest.provenance.config.get("method") == MATCHING:
            manifest = with_carried_familiarity(part, parent, manifest, change.bank)
        manifest = with_self_test(part, manifest, [case.file for case in manifest.self_test])
        checked = None
        if data is not None:
            checked = recheck(parent, part, data, recalibrate=order.recalibrate)
            manifest = checked.onto(manifest)
            write_manifest(part, manifest)
            if change.of_items:
                manifest = with_new_drift(part, parent, manifest, data)
        told = _tell(parent, part, manifest, change, learned, reviewed) + told
        if reviewed is not None and change.bank.background is not None:
            told += unsorted(parent, Bundle(part, manifest), reviewed)
        if data is not None and change.background:
            told += unfamiliar(parent, Bundle(part, manifest), data)
        dropped = dropped_parts(parent, manifest)
        told += [_of_dropped(order, dropped)] if dropped else []
        write_corrected_card(part, parent, manifest, told, checked)
        read_bundle(part)  # what the service will do
    print("\n".join(told))
    if checked:
        print(checked.told())
        for warning in checked.losses():
            print(warning, file=sys.stderr)
    print(f"bundle: {order.out}")
    print(who_takes_it(order.bundle, parent.id, order.out))
    if newest := newer_than(parent, order.out):
        print(newest, file=sys.stderr)


def _read(order: Order, manifest: Manifest, data: PhotoSet | None) -> Reviewed | None:
    if order.review is None:
        if not order.remove and not order.remove_kinds and order.background is None:
            raise ConfigError(
                "expected reviewed photos (--from-review), items to --remove, or pictures of what "
                "is of no superclass (--background)"
            )
        return None
    reviewed = read_review(order.review, manifest.superclasses)
    return reviewed if data is None else without_measured(reviewed, data)


def _odd_kinds(order: Order, manifest: Manifest, reviewed: Reviewed | None) -> list[str]:
    """A warning for each kind that is new or of another superclass: it may be a slip."""
    if reviewed is None:
        return []
    known = [(item.superclass, item.subclass) for item in manifest.bank.items]
    rules: set[str] = set()
    for file in find_sites(order.sites_dir):
        try:
            rules |= site_kinds(read_site(file)[0])
        except SiteError:  # of no use to the service either
            continue
    return kind_warnings((*reviewed.learned, *reviewed.held_out), known, "the bank", rules)


def _change(
    order: Order, parent: Bundle, reviewed: Reviewed | None
) -> tuple[Change, Seen | None, list[str]]:
    """The bank with its new items, the photos that these are of, and what is told of it."""
    before = served_bank(parent)
    change = take_out(before, order.remove, order.remove_kinds)
    seen: Seen | None = None
    told: list[str] = []
    if reviewed is not None:
        change, told = take_out_foreign(change, reviewed)
        seen, bad = see(reviewed.learned, parent.manifest)
        maker = key_maker(parent, before, order.run, order.weight)
        change = join(change, seen, maker, bad | reviewed.left_out)
    return change, seen, told


def _begin(part: Path, order: Order, parent: Bundle, change: Change, command: str) -> Manifest:
    """Files and manifest before anything is measured."""
    old = parent.manifest
    kept = {*old.variants.values(), *(case.file for case in old.self_test)}
    if not change.of_items and old.drift is not None:
        kept.add(old.drift)
    for name in kept:
        shutil.copyfile(parent.path / name, part / name)
    write_bank(part / BANK, change.bank.keys, change.bank.values, change.bank.background)
    correction = Correction(
        parent=parent.id,
        parent_manifest_sha256=sha256_of(parent.path / MANIFEST),
        command=portable(command),
        corrected_at=datetime.now(UTC).replace(microsecond=0),
        added=len(change.added),
        removed=len(change.removed),
        background=len(change.background),
        items_sha256=change.digest(),
        weight=order.weight,
    )
    parts = optional_parts() - KEPT  # made of the old bank's items and answers
    if not change.of_items:
        parts -= {"drift"}
    corrections = (*old.provenance.corrections, correction)
    fields = (
        old.model_dump()
        | dict.fromkeys(parts)
        | {
            "version": order.out.name,
            "bank": {
                "selection": old.bank.selection,
                "items": [item.model_dump() for item in change.bank.items],
                "file": BANK,
            },
            "files": {name: record_of(part / name) for name in sorted({*kept, BANK})},
            "provenance": old.provenance.model_copy(update={"corrections": corrections}),
            "metrics": () if change.of_items else old.metrics,
        }
    )
    manifest = Manifest.model_validate(fields)
    write_manifest(part, manifest)
    return manifest


def _of_dropped(order: Order, dropped: list[str]) -> str:
    data = order.data.name if order.data else "DIR"
    only = " --only drift" if dropped == ["drift"] else ""
    return (
        f"not carried over, since made of the old bank's answers: {', '.join(dropped)}; superbin "
        f"reference {order.out}{only} --data {data} makes that anew"
    )


def _tell(
    parent: Bundle,
    part: Path,
    manifest: Manifest,
    change: Change,
    learned: Seen | None,
    reviewed: Reviewed | None,
) -> list[str]:
    """What was done, and what the reviewed photos are answered before and after."""
    size = f"{len(parent.manifest.bank.items):,} to {len(manifest.bank.items):,} items"
    told = [f"bank: {len(change.added)} added, {len(change.removed)} removed, {size}"]
    kinds = Counter(f"{item.subclass or 'unnamed'} ({item.superclass})" for item in change.added)
    if kinds:
        told.append("added: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    if change.removed:
        told.append(f"removed: {some([item.id for item in change.removed])}")
    if change.contradicted:
        pairs = [f"{old} by {new}" for old, new in change.contradicted.items()]
        told.append(f"contradicted, and so replaced: {some(pairs)}")
    if change.known:
        told.append(f"in the bank already: {some(change.known)}")
    if change.bad:
        told.append(f"left out: {some([f'{path} ({why})' for path, why in change.bad.items()])}")
    if reviewed is None or learned is None:
        return told
    old, new = Classifier(parent), Classifier(Bundle(part, manifest))
    held_out, _ = see(reviewed.held_out, manifest)
    for name, seen, note in (("added or known", learned, IN_BANK), ("held out", held_out, "")):
        if seen.photos:
            right = [int((_answers(c, seen.pixels) == seen.labels).sum()) for c in (old, new)]
            told.append(
                f"right about reviewed photos, {name}: {right[0]} to {right[1]} of "
                f"{len(seen.photos)}{note}"
            )
    return told


def _answers(classifier: Classifier, pixels: Pixels) -> Any:
    rows = [classifier.run(pixels[i : i + 1]).probabilities for i in range(len(pixels))]
    return np.concatenate(rows).argmax(axis=1)
