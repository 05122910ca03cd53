"""Folders of labelled photos, in two forms.

`labels.csv`: a header and one line a photo, `path,source,subclass,superclass,split`; only `path`
(relative to the folder) and `superclass` are required.

    path,superclass,split
    images/0001.jpg,organic,train

Folder per class: `<subclass>/*.jpg`, and a map from subclass to superclass in `superclasses.toml`.

    [superclasses]
    organic = ["apple_core", "tea_bag"]
    recyclable = ["can", "newspaper"]
"""

from __future__ import annotations

import csv
import hashlib
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from training.errors import DataError

LABELS = "labels.csv"
MAP = "superclasses.toml"
COLUMNS = ("path", "source", "subclass", "superclass", "split")
SPLITS = ("train", "val", "test")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".avif", ".heic"})


@dataclass(frozen=True)
class Photo:
    """One labelled photo; `path` is relative to the dataset's folder."""

    path: str
    superclass: str
    subclass: str | None = None
    source: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class PhotoSet:
    """The photos of a folder, the ordered superclasses, and what was missing."""

    root: Path
    photos: tuple[Photo, ...]
    superclasses: tuple[str, ...]
    missing: tuple[str, ...] = ()

    def split(self, name: str) -> tuple[Photo, ...]:
        """The photos of `train`, `val` or `test`."""
        return tuple(photo for photo in self.photos if photo.split == name)

    def summary(self) -> dict[str, object]:
        """Counts and a digest of the labels, for a run's record."""
        lines = "\n".join(f"{p.path},{p.superclass},{p.split}" for p in self.photos)
        return {
            "name": self.root.name,
            "photos": len(self.photos),
            "splits": {
                name: dict(Counter(p.superclass for p in self.split(name))) for name in SPLITS
            },
            "sources": dict(Counter(p.source or "unnamed" for p in self.photos)),
            "labels_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        }


def read_photos(
    root: Path,
    *,
    superclass_map: Path | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> PhotoSet:
    """Read a dataset folder in either form.

    Args:
        root: the folder.
        superclass_map: of the folder-per-class form, where it is not `root/superclasses.toml`.
        val_fraction, test_fraction: drawn by a hash of the path, within each subclass, where the
            data name no split; so a photo keeps its split when others come.

    Raises:
        DataError: where the folder is in neither form, a label is unusable, or too little is left.
    """
    if not root.is_dir():
        raise DataError(f"expected a folder of photos, got {root}, which is none")
    labels, map_file = root / LABELS, superclass_map or root / MAP
    if labels.is_file() and superclass_map is None:
        photos = list(_from_csv(labels))
    elif map_file.is_file():
        photos = list(_from_folders(root, map_file))
    else:
        raise DataError(
            f"{root} has neither a {LABELS} (path,superclass[,subclass,source,split]) nor a "
            f"{MAP} for folders named after subclasses; see README, 'Retrain on your own photos'"
        )
    present = [photo for photo in photos if (root / photo.path).is_file()]
    missing = tuple(photo.path for photo in photos if not (root / photo.path).is_file())
    if not present:
        raise DataError(f"none of the {len(photos)} photos of {root} exists; first: {missing[:3]}")
    split = _with_splits(present, val_fraction, test_fraction)
    superclasses = tuple(sorted({photo.superclass for photo in split}))
    _check(split, superclasses, root)
    return PhotoSet(root, tuple(split), superclasses, missing)


def _from_csv(file: Path) -> Iterable[Photo]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        names = set(reader.fieldnames or ())
        unknown, lacking = names - set(COLUMNS), {"path", "superclass"} - names
        if unknown or lacking:
            raise DataError(
                f"{file}: expected the columns {','.join(COLUMNS)} (path and superclass at least), "
                f"got {','.join(reader.fieldnames or ['nothing'])}"
            )
        for row in reader:
            values = {key: (row[key] or "").strip() or None for key in names}
            path, superclass = values["path"], values["superclass"]
            split = values.get("split")
            if path is None or superclass is None:
                raise DataError(f"{file}, line {reader.line_num}: path and superclass are required")
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise DataError(
                    f"{file}, line {reader.line_num}: expected a path below the folder, got {path}"
                )
            if split is not None and split not in SPLITS:
                raise DataError(
                    f"{file}, line {reader.line_num}: expected a split of {', '.join(SPLITS)}, "
                    f"got {split!r}"
                )
            yield Photo(path, superclass, values.get("subclass"), values.get("source"), split)


def _from_folders(root: Path, map_file: Path) -> Iterable[Photo]:
    try:
        record = tomllib.loads(map_file.read_text(encoding="utf-8"))["superclasses"]
        owner = {sub: superclass for superclass, subs in record.items() for sub in subs}
    except (tomllib.TOMLDecodeError, KeyError, AttributeError, TypeError) as error:
        raise DataError(
            f'{map_file}: expected a table [superclasses] with lines name = ["subclass", ...]: '
            f"{error!r}"
        ) from error
    folders = {folder.name for folder in root.iterdir() if folder.is_dir()}
    if strays := sorted(folders - set(owner)):
        raise DataError(f"{map_file} names no superclass for the folders {', '.join(strays)}")
    if absent := sorted(set(owner) - folders):
        raise DataError(f"{map_file} names folders that {root} does not have: {', '.join(absent)}")
    for folder in sorted(folders):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix.lower() in EXTENSIONS:
                path = file.relative_to(root).as_posix()
                yield Photo(path, owner[folder], folder)


def _with_splits(photos: list[Photo], val_fraction: float, test_fraction: float) -> list[Photo]:
    """Give a split to those without; within each subclass, in the order of the path's hash."""
    groups: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for index, photo in enumerate(photos):
        if photo.split is None:
            groups[photo.superclass, photo.subclass].append(index)
    result = list(photos)
    for members in groups.values():
        members.sort(key=lambda i: hashlib.sha256(photos[i].path.encode()).digest())
        tests = round(len(members) * test_fraction)
        vals = round(len(members) * val_fraction)
        for place, index in enumerate(members):
            split = "test" if place < tests else "val" if place < tests + vals else "train"
            result[index] = replace(photos[index], split=split)
    return result


def _check(photos: list[Photo], superclasses: tuple[str, ...], root: Path) -> None:
    if len(superclasses) < 2:
        raise DataError(f"{root}: expected at least two superclasses, got {list(superclasses)}")
    if repeated := [path for path, n in Counter(p.path for p in photos).items() if n > 1]:
        raise DataError(f"{root}: {len(repeated)} paths are listed twice, first {repeated[0]}")
    for split in ("train", "val"):
        counts = Counter(photo.superclass for photo in photos if photo.split == split)
        if empty := [name for name in superclasses if not counts[name]]:
            raise DataError(
                f"{root}: the {split} split has no photo of {', '.join(empty)}; add photos, or "
                "set data.val_fraction where the data name no split"
            )
