"""Folders of labelled photos: one's own in two forms (`training.data.own`), and public datasets.

A public dataset is found by its official layout on disk, each in a module of its own.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.adience import find_adience, read_adience
from training.data.cifar100 import find_cifar100, read_cifar100, row_as_png, row_of
from training.data.fmow import find_fmow, read_fmow
from training.data.mini_imagenet import find_mini_imagenet, read_mini_imagenet
from training.data.own import EXTENSIONS as EXTENSIONS
from training.data.own import LABELS, read_folders, read_labels
from training.data.own import SPLITS as SPLITS
from training.data.photo import Found, LeftOut, place
from training.data.photo import Photo as Photo
from training.data.repeats import repeats
from training.data.superclass_map import MAP, map_file, read_map
from training.data.superclass_map import MAPS as MAPS
from training.data.voc import find_voc, read_voc
from training.errors import DataError


@dataclass(frozen=True)
class Layout:
    """A public dataset's official layout on disk.

    Attributes:
        find: the folder where it begins, at or below the one that was named; None without it.
        read: its photos.
        maps: the maps that are shipped for it; a single one is taken where none is named.
    """

    name: str
    find: Callable[[Path], Path | None]
    read: Callable[[Found], Iterator[Photo | LeftOut]]
    maps: tuple[str, ...]


CIFAR_MAPS = ("cifar100-4", "cifar100-3", "cifar100-7", "isotropy", "isotropy-fake")
LAYOUTS = (
    Layout("CIFAR-100", find_cifar100, read_cifar100, CIFAR_MAPS),
    Layout("mini-ImageNet", find_mini_imagenet, read_mini_imagenet, ("mini-imagenet",)),
    Layout("PASCAL VOC 2012", find_voc, read_voc, ("voc-2012",)),
    Layout("Adience", find_adience, read_adience, ("adience",)),
    Layout("fMoW-rgb", find_fmow, read_fmow, ("fmow",)),
)


@dataclass(frozen=True)
class PhotoSet:
    """The photos of a folder, the ordered superclasses, and what could not be used.

    Attributes:
        missing: paths that the labels name and the folder does not have.
        unlabelled: photos without a usable label or name.
        review: what of `training.data.review` joined `train`, for a run's record.
        copies: pairs of equal photos in two splits: that of the later one, of train, val and test,
            and the first of the earliest.
        contradictions: pairs of equal photos of two superclasses: a later one, and the first.
    """

    root: Path
    photos: tuple[Photo, ...]
    superclasses: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unlabelled: tuple[LeftOut, ...] = ()
    review: dict[str, object] | None = None
    copies: tuple[tuple[Photo, Photo], ...] = ()
    contradictions: tuple[tuple[Photo, Photo], ...] = ()

    def split(self, name: str) -> tuple[Photo, ...]:
        """The photos of `train`, `val` or `test`."""
        return tuple(photo for photo in self.photos if photo.split == name)

    def some_of(self, name: str) -> tuple[Photo, ...]:
        """The photos of a split that is needed.

        Raises:
            DataError: where there is none.
        """
        if found := self.split(name):
            return found
        there = Counter(str(photo.split) for photo in self.photos)
        told = ", ".join(f"{count} in {split}" for split, count in there.items())
        raise DataError(f"{self.root} has no photo in the split {name!r}, but {told}")

    def unusable(self) -> dict[str, str]:
        """What is wrong with each photo that was left out, by its path."""
        labels = {one.path: one.reason for one in self.unlabelled}
        return labels | dict.fromkeys(self.missing, "missing")

    def summary(self) -> dict[str, object]:
        """Counts and a digest of the labels, for a run's record."""
        counts = {
            "name": self.root.absolute().name,
            "photos": len(self.photos),
            "splits": {
                name: dict(Counter(p.superclass for p in self.split(name))) for name in SPLITS
            },
            "sources": dict(Counter(p.source or "unnamed" for p in self.photos)),
            "labels_sha256": labels_digest(self.photos),
        }
        if self.review is not None:
            counts["review"] = self.review
        return counts | ({"unlabelled": len(self.unlabelled)} if self.unlabelled else {})


def read_photos(
    root: Path,
    *,
    superclass_map: Path | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    to_learn: bool = True,
) -> PhotoSet:
    """Read a dataset folder in any of the forms.

    Args:
        root: the folder.
        superclass_map: from subclasses to superclasses, where it is not `root/superclasses.toml`: a
            file, or the name of one under `training/data/maps`.
        val_fraction, test_fraction: drawn by a hash of the path where the data name no split; so
            a photo keeps its split when others come, and equal photos are in one. Photos in a
            public layout are not compared with each other.
        to_learn: whether superclasses are to be learned: train and val then need photos of each.

    Raises:
        DataError: where the folder is in no known form, a label is unusable, or too little is left.
    """
    if not root.is_dir():
        raise DataError(f"expected a folder of photos, got {root}, which is none")
    present: list[Photo] = []
    missing: list[str] = []
    unlabelled: list[LeftOut] = []
    found, own, named = _read(root, superclass_map, val_fraction)
    for one in found:
        if isinstance(one, Photo):
            named.add(one.superclass)
        if isinstance(one, LeftOut):
            unlabelled.append(one)
        elif photo_file(root, one).is_file():
            present.append(one)
        else:
            missing.append(one.path)
    if not present:
        raise DataError(_why_none(root, missing, unlabelled))
    _check(present, root)
    equal = repeats([photo_file(root, photo) for photo in present]) if own else {}
    split = _with_splits(present, equal, val_fraction, test_fraction)
    superclasses = tuple(sorted({photo.superclass for photo in split}))
    if to_learn:
        _check_to_learn(split, tuple(sorted(named)), root)
    alike = [[split[i] for i in members] for members in equal.values()]
    return PhotoSet(
        root,
        tuple(split),
        superclasses,
        tuple(missing),
        tuple(unlabelled),
        copies=tuple(_apart(alike)),
        contradictions=tuple(
            (one, first)
            for first, *others in alike
            for one in others
            if one.superclass != first.superclass
        ),
    )


def _why_none(root: Path, missing: list[str], unlabelled: list[LeftOut]) -> str:
    if unlabelled and not missing:
        first = unlabelled[0]
        return f"{root}: no photo can be used; first: {first.path}, {first.reason}"
    return f"none of the {len(missing)} photos of {root} exists; first: {tuple(missing[:3])}"


def _read(
    root: Path, given: Path | None, val_fraction: float
) -> tuple[Iterable[Photo | LeftOut], bool, set[str]]:
    """By the first form that the folder has.

    Returns:
        The photos, whether the form is one of one's own, and superclasses that are to be there.
    """
    if (root / LABELS).is_file() and given is None:
        return read_labels(root / LABELS), True, set()
    for layout in LAYOUTS:
        if folder := layout.find(root):
            owner = read_map(_map_of(layout, root, given))
            return layout.read(Found(root, folder, owner, val_fraction)), False, set()
    if (file := map_file(root, given)).is_file():
        return read_folders(root, file), True, set(read_map(file).values())
    raise DataError(
        f"{root} has neither a {LABELS} (path,superclass[,subclass,source,split]) nor a "
        f"{MAP} for folders named after subclasses, nor the layout of "
        f"{', '.join(layout.name for layout in LAYOUTS)}; see training/README.md, 'Your own photos'"
    )


def _map_of(layout: Layout, root: Path, given: Path | None) -> Path:
    """The map that was named, the folder's own, or the only one that is shipped for the layout."""
    file = map_file(root, given)
    if not file.is_file() and given is None and len(layout.maps) == 1:
        file = MAPS / f"{layout.maps[0]}.toml"
    if not file.is_file():
        raise DataError(
            f"{root} is {layout.name}, whose superclasses have to be chosen: --superclasses FILE, "
            f"or one of {', '.join(layout.maps)}"
        )
    return file


def photo_file(root: Path, photo: Photo) -> Path:
    """The file that holds a photo, alone or among others."""
    row = None if photo.file else row_of(photo.path)
    return photo.file or root / (row[0] if row else photo.path)


def photo_bytes(root: Path, photo: Photo) -> bytes:
    """An encoded photo."""
    file, row = photo_file(root, photo), None if photo.file else row_of(photo.path)
    return row_as_png(file, row[1]) if row else file.read_bytes()


def _with_splits(
    photos: list[Photo], equal: dict[str, list[int]], val_fraction: float, test_fraction: float
) -> list[Photo]:
    """Give a split to those without, by the hash of the path alone.

    Equal photos get the earliest that is given to one of them, or else one by the hash of what they
    hold.
    A superclass too small to get a val or a test photo that way is lent the train photo whose hash
    is the highest or the lowest, until its own comes: one that is no copy of another, or, for val
    alone, any.
    """
    result = list(photos)
    contents = {i: content for content, same in equal.items() for i in same}
    given = {
        i: min((s for j in same if (s := photos[j].split)), key=SPLITS.index, default=None)
        for same in equal.values()
        for i in same
    }
    groups: dict[str, list[int]] = defaultdict(list)
    for index, photo in enumerate(photos):
        if photo.split is None:
            groups[photo.superclass].append(index)
            where = place(contents.get(index, photo.path))
            drawn = "val" if where < test_fraction + val_fraction else "train"
            drawn = "test" if where < test_fraction else drawn
            result[index] = replace(photo, split=given.get(index) or drawn)
    for members in groups.values():
        members.sort(key=lambda i: place(photos[i].path))
        for split, fraction, end in (("val", val_fraction, -1), ("test", test_fraction, 0)):
            trained = [i for i in members if result[i].split == "train"]
            lacking = not any(result[i].split == split for i in members)
            lent = [i for i in trained if i not in contents]  # a copy of what stays tells little
            if split == "val" and not lent:  # which is needed
                lent = trained
            if fraction and lacking and lent and len(trained) > 1:
                result[lent[end]] = replace(photos[lent[end]], split=split)
    return result


def _apart(equal: list[list[Photo]]) -> Iterator[tuple[Photo, Photo]]:
    """As `PhotoSet.copies`."""
    for photos in equal:
        first = min(photos, key=lambda photo: SPLITS.index(str(photo.split)))
        yield from ((photo, first) for photo in photos if photo.split != first.split)


def _check(photos: list[Photo], root: Path) -> None:
    if repeated := [path for path, n in Counter(p.path for p in photos).items() if n > 1]:
        raise DataError(f"{root}: {len(repeated)} paths are listed twice, first {repeated[0]}")


def _check_to_learn(photos: list[Photo], superclasses: tuple[str, ...], root: Path) -> None:
    if len(superclasses) < 2:
        raise DataError(f"{root}: expected at least two superclasses, got {list(superclasses)}")
    for split in ("train", "val"):
        counts = Counter(photo.superclass for photo in photos if photo.split == split)
        if empty := [name for name in superclasses if not counts[name]]:
            raise DataError(
                f"{root}: the {split} split has no photo of {', '.join(empty)}; add photos, or "
                "set data.val_fraction where the data name no split"
            )


def labels_digest(photos: Iterable[Photo]) -> str:
    """SHA-256 of paths, superclasses and splits, as lower-case hex."""
    lines = "\n".join(f"{p.path},{p.superclass},{p.split}" for p in photos)
    return hashlib.sha256(lines.encode()).hexdigest()


def label_indices(photos: tuple[Photo, ...], data: PhotoSet) -> npt.NDArray[np.int64]:
    """int64 [n]: the place of each photo's superclass in `data.superclasses`."""
    places = {name: place for place, name in enumerate(data.superclasses)}
    return np.array([places[photo.superclass] for photo in photos], dtype=np.int64)
