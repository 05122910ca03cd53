"""Kinds held out whole: how a superclass fares with things that nothing in training was like.

A fold file is TOML. `kinds` gathers the subclasses that are one kind under several names; any other
subclass is a kind of its own. `folds` says which kinds each fold holds out.

    [kinds]
    glass = ["glass", "glass_bottle"]

    [folds]
    1 = ["battery", "glass"]
    2 = ["paint_bucket", "can"]
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from service.bundle import Manifest
from training import shipped
from training.config import Config
from training.data.photo import place
from training.data.photos import SPLITS, Photo, PhotoSet, read_photos
from training.errors import ConfigError, DataError
from training.records import parse_config

FOLDS = Path(__file__).parent / "folds"
UNSEEN = "unseen"  # the split of photos whose kind is held out


@dataclass(frozen=True)
class Folds:
    """A fold file.

    Attributes:
        kind_of: subclass to kind, where it is not its own.
        held_out: kinds, by the fold's name.
    """

    name: str
    kind_of: dict[str, str]
    held_out: dict[str, tuple[str, ...]]

    def kind(self, photo: Photo) -> str:
        """What a photo shows, whatever its source calls it."""
        return self.kind_of.get(photo.subclass or "", photo.subclass or "")


def read_folds(reference: str) -> Folds:
    """Read a fold file, or one under `training/data/folds` by its name.

    Raises:
        DataError: where there is none, or it is not of the documented form.
    """
    file = shipped.find(reference, FOLDS, "a fold file", DataError)
    record = shipped.read(file, DataError)
    kinds, folds = _table(file, record, "kinds"), _table(file, record, "folds")
    if not folds or record.keys() - {"kinds", "folds"}:
        raise DataError(f"{file}: expected the tables folds and kinds, got {', '.join(record)}")
    kind_of: dict[str, str] = {}
    for kind, subclasses in kinds.items():
        for subclass in subclasses:
            if kind_of.setdefault(subclass, kind) != kind:
                raise DataError(f"{file} calls {subclass} both {kind_of[subclass]} and {kind}")
    for name, held in folds.items():
        if loose := [one for one in held if kind_of.get(one, one) != one]:
            raise DataError(
                f"{file}: fold {name} holds out {loose[0]}, which is only a part of the kind "
                f"{kind_of[loose[0]]}"
            )
    return Folds(file.stem, kind_of, folds)


def hold_out(
    data: PhotoSet, folds: Folds, fold: str, shots: int = 0, *, to_learn: bool = True
) -> PhotoSet:
    """The same photos; those of the fold's kinds, whatever their split was, are now `unseen`.

    Args:
        shots: photos of each such kind, but not more than half of them, that are `train` after all:
            those with the lowest hash of their path.
        to_learn: whether superclasses are to be learned: the data then need photos of each kind of
            the fold, and of each superclass in train and val without them.

    Raises:
        DataError: where there is no such fold, its kinds are not in the data, or too little stays.
    """
    if fold not in folds.held_out:
        known = ", ".join(folds.held_out)
        raise DataError(f"{folds.name} has the folds {known}, got {fold!r}")
    present = {folds.kind(photo) for photo in data.photos}
    absent = [kind for kind in folds.held_out[fold] if kind not in present]
    if absent and to_learn:
        raise DataError(
            f"{data.root} has no photo of {', '.join(absent)}, which fold {fold} of {folds.name} "
            "holds out; folds go by the subclasses that the data name"
        )
    held = folds.held_out[fold]
    shown: set[str] = set()
    for kind in held:
        mine = [photo for photo in data.photos if folds.kind(photo) == kind]
        mine.sort(key=lambda photo: place(photo.path))
        shown |= {photo.path for photo in mine[: min(shots, len(mine) // 2)]}
    photos = tuple(
        replace(photo, split="train" if photo.path in shown else UNSEEN)
        if folds.kind(photo) in held
        else photo
        for photo in data.photos
    )
    counts = Counter((photo.superclass, photo.split) for photo in photos)
    for superclass in data.superclasses if to_learn else ():
        for split in SPLITS[:2]:
            if not counts[superclass, split]:
                raise DataError(
                    f"fold {fold} of {folds.name} leaves no photo of {superclass} to {split}"
                )
    return replace(data, photos=photos)


def read_photos_as(
    root: Path, config: Config, superclass_map: Path | None = None, *, to_learn: bool = True
) -> PhotoSet:
    """`read_photos` with the fractions of an experiment record, and without what it holds out.

    Where nothing is to be learned any photos will do, and it is printed how many are held out.

    Raises:
        DataError: as `read_photos`, `read_folds` and `hold_out`.
    """
    data = read_photos(
        root,
        superclass_map=superclass_map,
        val_fraction=config.data.val_fraction,
        test_fraction=config.data.test_fraction,
        to_learn=to_learn,
    )
    if config.data.hold_out is None:
        return data
    reference, _, fold = config.data.hold_out.rpartition(":")
    folds = read_folds(reference)
    held = hold_out(data, folds, fold, to_learn=to_learn)
    if not to_learn:
        print(
            f"note: the model was trained without {', '.join(folds.held_out[fold])}; of these "
            f"{root} has {len(held.split(UNSEEN)) or 'no'} photos, which are the split {UNSEEN}"
        )
    return held


def read_photos_of(manifest: Manifest, root: Path, superclass_map: Path | None = None) -> PhotoSet:
    """Photos to measure a bundle on, in the splits that its model was trained with.

    Raises:
        DataError: as `read_photos_as`.
    """
    try:
        config = parse_config(manifest.provenance.config)
    except ConfigError:  # a bundle that no record made
        return read_photos(root, superclass_map=superclass_map, to_learn=False)
    return read_photos_as(root, config, superclass_map, to_learn=False)


def _table(file: Path, record: dict[str, object], name: str) -> dict[str, tuple[str, ...]]:
    table = record.get(name, {})
    if not isinstance(table, dict) or not all(
        isinstance(names, list) and names and all(isinstance(one, str) for one in names)
        for names in table.values()
    ):
        raise DataError(f'{file}: expected lines name = ["name", ...] in [{name}], got {table!r}')
    return {key: tuple(names) for key, names in table.items()}
