"""What joins a bank and what leaves it: reviewed photos against the items that are there."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.bundle import BankItem, Bundle, Manifest
from service.errors import PhotoError
from service.preprocess import Pixels, decode
from training.bank_keys import KeyMaker
from training.data.photo import Photo
from training.data.review import REVIEW
from training.data.sampling import Indices
from training.data.store import LIMITS
from training.errors import ConfigError
from training.served_bank import ServedBank

LEAST_ITEMS = 5  # of a bank: the graph names so many references


@dataclass(frozen=True)
class Change:
    """A changed bank, and how it came about.

    Attributes:
        added: items that joined; removed: items that left, asked for or contradicted.
        known: reviewed photos that the bank has already, alike or the same.
        contradicted: id of an item that left to id of the reviewed photo that says otherwise.
        bad: path to what is wrong with a photo.
        background: pictures of what is of no superclass that joined.
    """

    bank: ServedBank
    added: tuple[BankItem, ...]
    removed: tuple[BankItem, ...]
    known: tuple[str, ...]
    contradicted: dict[str, str]
    bad: dict[str, str]
    background: tuple[str, ...] = ()

    @property
    def of_items(self) -> bool:
        """Whether answers may be others than before; by a background they are not."""
        return bool(self.added or self.removed)

    def digest(self) -> str:
        """SHA-256 of the list of changes."""
        lines = [f"+{i.id},{i.superclass},{i.subclass or ''}" for i in self.added]
        lines += [f"-{i.id},{i.superclass},{i.subclass or ''}" for i in self.removed]
        lines += [f"~{name}" for name in self.background]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class Seen:
    """Reviewed photos that decoded: uint8 [n, H, W, 3] and superclasses int64 [n], in order."""

    photos: tuple[Photo, ...]
    pixels: Pixels
    labels: Indices


def take_out(bank: ServedBank, ids: Collection[str], kinds: Collection[str]) -> Change:
    """The bank less these items, and less those of these subclasses.

    Raises:
        ConfigError: where one is not in it, with those that are called alike.
    """
    items = {item.id: item for item in bank.items}
    subclasses = {item.subclass for item in bank.items if item.subclass}
    for given, there, what in ((ids, items, "id"), (kinds, subclasses, "subclass")):
        for unknown in [one for one in given if one not in there]:
            near = difflib.get_close_matches(unknown, there, n=3)
            raise ConfigError(
                f"expected the {what} of a bank item to remove, got {unknown!r}"
                + (f"; close to it are {', '.join(near)}" if near else "")
            )
    leaving = tuple(item for item in bank.items if item.id in ids or item.subclass in kinds)
    return Change(bank.without({item.id for item in leaving}), (), leaving, (), {}, {})


def see(photos: tuple[Photo, ...], manifest: Manifest) -> tuple[Seen, dict[str, str]]:
    """Decode photos as the service does; also path to what is wrong with those that do not."""
    good, pixels, bad = decoded(photos, manifest)
    labels = [manifest.superclasses.index(photo.superclass) for photo in good]
    return Seen(good, pixels, np.array(labels, dtype=np.int64)), bad


def decoded(
    photos: Sequence[Photo], manifest: Manifest
) -> tuple[tuple[Photo, ...], Pixels, dict[str, str]]:
    """Those of some reviewed photos that decode, uint8 [n, H, W, 3], and what is wrong with others.

    None is kept in a cache: how long photos are kept is for the review store to say.
    """
    good, pixels, bad = [], [], {}
    spec = manifest.preprocessing
    for photo in photos:
        assert photo.file is not None  # all reviewed photos have one
        try:
            pixels.append(decode(photo.file.read_bytes(), spec, LIMITS))
            good.append(photo)
        except (PhotoError, OSError) as error:
            bad[photo.path] = str(error)
    none = np.empty((0, spec.height, spec.width, 3), dtype=np.uint8)
    stacked = np.concatenate([none, *(one[np.newaxis] for one in pixels)])
    return tuple(good), stacked, bad


def join(change: Change, seen: Seen, maker: KeyMaker, bad: dict[str, str]) -> Change:
    """Let photos join, one by one.

    One that is there already stays out; where the bank calls the same photo something else, the
    review is believed and the item leaves.
    """
    if not seen.photos:
        return Change(change.bank, (), change.removed, (), {}, bad)
    keys, values = maker.make(seen.pixels, seen.labels)
    bank, known = change.bank, []
    added: dict[str, BankItem] = {}
    contradicted: dict[str, str] = {}
    leaving: dict[str, BankItem] = {}
    for place, photo in enumerate(seen.photos):
        alike = bank.alike(photo.path, keys[place] if maker.by_likeness else None)
        others = [item for item in alike if _called_otherwise(item, photo)]
        for item in others:
            contradicted[item.id] = photo.path
            if added.pop(item.id, None) is None:
                leaving[item.id] = item
        bank = bank.without({item.id for item in others}) if others else bank
        if len(alike) > len(others):
            known.append(photo.path)
            continue
        item = BankItem(
            id=photo.path,
            superclass=photo.superclass,
            subclass=photo.subclass,
            source=REVIEW,
            weight=maker.weight,
        )
        added[item.id] = item
        bank = bank.joined([item], keys[place : place + 1], values[place : place + 1])
    removed = (*change.removed, *leaving.values())
    return Change(bank, tuple(added.values()), removed, tuple(known), contradicted, bad)


def _called_otherwise(item: BankItem, photo: Photo) -> bool:
    """A photo without a kind contradicts none."""
    kind = photo.subclass or item.subclass
    return (item.superclass, item.subclass) != (photo.superclass, kind)


def check_change(
    change: Change, parent: Bundle, most: int, held_out: int, told: Sequence[str] = ()
) -> None:
    """See that something changes, and that what is left can be a bank.

    Args:
        most: reviewed items that it may have.
        held_out: reviewed photos that are for measuring.
        told: what became of the pictures for a background.

    Raises:
        ConfigError: where it is not so.
    """
    manifest = parent.manifest
    if not change.of_items and not change.background:
        why = f"; {len(change.known)} reviewed photos are in it already" if change.known else ""
        named = some([f"{path} ({reason})" for path, reason in change.bad.items()])
        bad = f"; {len(change.bad)} cannot be used: {named}" if change.bad else ""
        held = f"; {held_out} reviewed photos are held out, and never join" if held_out else ""
        others = "".join(f"; {line}" for line in told)
        nothing = "" if why or bad or held or others else "; there is no reviewed photo"
        raise ConfigError(
            f"the bank of {parent.id} would not change{why}{bad}{held}{others}{nothing}"
        )
    reviewed = sum(item.source == REVIEW for item in change.bank.items)
    if reviewed > most:
        raise ConfigError(
            f"expected at most {most} reviewed items in the bank, got {reviewed}: train with "
            "them (superbin train --from-review), or allow more with --most"
        )
    counts = Counter(item.superclass for item in change.bank.items)
    if empty := [name for name in manifest.superclasses if not counts[name]]:
        raise ConfigError(f"the bank would have no item of {', '.join(empty)} left")
    if len(change.bank.items) < LEAST_ITEMS:
        raise ConfigError(f"expected {LEAST_ITEMS} items to be left, got {len(change.bank.items)}")


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
