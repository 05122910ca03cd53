"""Reviewed photos of no refuse: they join a bundle's background, and are in its bank no more.

What a background has and the review calls by a superclass now leaves it, the other way round: else
things like it would be doubted for ever.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from service.bundle import Bundle
from service.classifier import Classifier
from training.background_change import grow_background, record_for, would_sort
from training.bank_change import Change, decoded, some
from training.data.review import Reviewed
from training.doubt_reference import answers_to
from training.served_bank import SAME

WHAT = "reviewed photos of no refuse"


def take_out_foreign(change: Change, reviewed: Reviewed) -> tuple[Change, list[str]]:
    """Without the items that are photos reviewed as no refuse now; also a line on them, if any are.

    Before others join: one that is like such an item is no photo that the bank has.
    """
    names = {photo.path for photo in reviewed.no_refuse}
    leaving = [item for item in change.bank.items if item.id in names]
    if not leaving:
        return change, []
    ids = {item.id for item in leaving}
    bank, removed = change.bank.without(ids), (*change.removed, *leaving)
    told = f"left the bank, since they are reviewed as no refuse: {some(sorted(ids))}"
    return replace(change, bank=bank, removed=removed), [told]


def join_background(change: Change, parent: Bundle, reviewed: Reviewed) -> tuple[Change, list[str]]:
    """Let reviewed photos of no refuse join, each once; also what happened, in lines.

    Where the bundle has no background they are left out, and that is said.
    """
    if change.bank.background is None:
        return change, _left_out(len(reviewed.no_refuse), parent)
    change, mended = _let_go(change)
    photos, pixels, bad = decoded(reviewed.no_refuse, parent.manifest)
    change = replace(change, bad=change.bad | bad)
    if not photos:
        return change, mended
    grown = grow_background(change.bank, parent, photos, pixels)
    change = replace(change, bank=grown.bank, background=(*change.background, *grown.added))
    return change, mended + grown.told(WHAT)


def unsorted(before: Bundle, after: Bundle, reviewed: Reviewed) -> list[str]:
    """Lines on how many of them are not sorted, before and after, by what they are for."""
    groups = {WHAT: reviewed.no_refuse, f"{WHAT}, held out": reviewed.no_refuse_held_out}
    told = []
    for name, photos in groups.items():
        good, pixels, _ = decoded(photos, before.manifest)
        if good:
            was, now = (
                sum(
                    int((~would_sort(one, bundle)).sum())
                    for one in answers_to(Classifier(bundle), pixels, "no refuse")
                )
                for bundle in (before, after)
            )
            told.append(f"not sorted of {name}: {was} to {now} of {len(good)}")
    return told


def _let_go(change: Change) -> tuple[Change, list[str]]:
    """With a background that has none of the photos that joined the bank."""
    bank, joined = change.bank, {item.id for item in change.added}
    assert bank.background is not None
    rows = [row for row, item in enumerate(bank.items) if item.id in joined]
    pairs = np.argwhere(bank.keys[rows] @ bank.background.T >= SAME)  # [n, 2]
    if not len(pairs):
        return change, []
    named = dict.fromkeys(bank.items[rows[joins]].id for joins, _ in pairs)
    kept = np.delete(bank.background, pairs[:, 1], axis=0)
    told = f"left the background, since they are reviewed as of a bin: {some(named)}"
    return replace(change, bank=replace(bank, background=kept)), [told]


def _left_out(photos: int, bundle: Bundle) -> list[str]:
    if not photos:
        return []
    return [
        f"left out: {photos} {WHAT}, since {bundle.id} has no background that they could join and "
        "cannot get one, whose graph compares with none: superbin train "
        f"{record_for(bundle)} --data DIR --out RUN and then superbin calibrate and superbin "
        "export make a bundle with the background that is shipped, which they can join"
    ]
