"""Folders of labelled photos, in two forms, and CIFAR-100's binary one (`training.data.cifar100`).

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
import io
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.cifar100 import cifar100_rows, find_cifar100, row_as_png, row_of
from training.errors import DataError

LABELS = "labels.csv"
MAP = "superclasses.toml"
COLUMNS = ("path", "source", "subclass", "superclass", "split")
SPLITS = ("train", "val", "test")
MAPS = Path(__file__).parent / "maps"
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
    """Read a dataset folder in any of the forms.

    Args:
        root: the folder.
        superclass_map: from subclasses to superclasses, where it is not `root/superclasses.toml`: a
            file, or the name of one under `training/data/maps`.
        val_fraction, test_fraction: drawn by a hash of the path where the data name no split; so
            a photo keeps its split when others come.

    Raises:
        DataError: where the folder is in neither form, a label is unusable, or too little is left.
    """
    if not root.is_dir():
        raise DataError(f"expected a folder of photos, got {root}, which is none")
    labels, map_file = root / LABELS, _map_file(root, superclass_map)
    if labels.is_file() and superclass_map is None:
        photos = list(_from_csv(labels))
    elif cifar := find_cifar100(root):
        photos = list(_from_cifar100(root, cifar, map_file, val_fraction))
    elif map_file.is_file():
        photos = list(_from_folders(root, map_file))
    else:
        raise DataError(
            f"{root} has neither a {LABELS} (path,superclass[,subclass,source,split]) nor a "
            f"{MAP} for folders named after subclasses; see README, 'Retrain on your own photos'"
        )
    present = [photo for photo in photos if photo_file(root, photo).is_file()]
    missing = tuple(photo.path for photo in photos if not photo_file(root, photo).is_file())
    if not present:
        raise DataError(f"none of the {len(photos)} photos of {root} exists; first: {missing[:3]}")
    split = _with_splits(present, val_fraction, test_fraction)
    superclasses = tuple(sorted({photo.superclass for photo in split}))
    _check(split, superclasses, root)
    return PhotoSet(root, tuple(split), superclasses, missing)


def photo_file(root: Path, photo: Photo) -> Path:
    """The file that holds a photo, alone or among others."""
    row = row_of(photo.path)
    return root / (row[0] if row else photo.path)


def photo_bytes(root: Path, photo: Photo) -> bytes:
    """An encoded photo."""
    file, row = photo_file(root, photo), row_of(photo.path)
    return row_as_png(file, row[1]) if row else file.read_bytes()


def _map_file(root: Path, given: Path | None) -> Path:
    shipped = MAPS / f"{given}.toml"
    return root / MAP if given is None else shipped if shipped.is_file() else given


def _from_cifar100(
    root: Path, folder: Path, map_file: Path, val_fraction: float
) -> Iterable[Photo]:
    """The test file is test; of the other, val is drawn by a hash."""
    if not map_file.is_file():
        known = ", ".join(sorted(file.stem for file in MAPS.glob("*.toml")))
        raise DataError(
            f"{folder} is CIFAR-100, whose superclasses have to be chosen: --superclasses FILE, or "
            f"one of {known}"
        )
    owner = _read_map(map_file)
    below = folder.relative_to(root)
    for name, subclass, split in cifar100_rows(folder):
        if subclass in owner:
            photo = Photo((below / name).as_posix(), owner[subclass], subclass, "cifar100", split)
            drawn = split == "train" and _place(photo) < val_fraction
            yield replace(photo, split="val") if drawn else photo


def _from_csv(file: Path) -> Iterable[Photo]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected text in UTF-8: {error}") from error
    with io.StringIO(text, newline="") as stream:
        reader = csv.DictReader(stream)
        names = set(reader.fieldnames or ())
        unknown, lacking = names - set(COLUMNS), {"path", "superclass"} - names
        if unknown or lacking:
            raise DataError(
                f"{file}: expected the columns {','.join(COLUMNS)} (path and superclass at least), "
                f"got {','.join(reader.fieldnames or ['nothing'])}"
            )
        for row in reader:
            if None in row:  # where DictReader puts what has no column
                raise DataError(
                    f"{file}, line {reader.line_num}: expected {len(reader.fieldnames or ())} "
                    "values, got more; a value that has a comma goes in double quotes"
                )
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
    owner = _read_map(map_file)
    folders = {
        folder.name for folder in root.iterdir() if folder.is_dir() and folder.name[0] != "."
    }
    if strays := sorted(folders - set(owner)):
        raise DataError(f"{map_file} names no superclass for the folders {', '.join(strays)}")
    if absent := sorted(set(owner) - folders):
        raise DataError(f"{map_file} names folders that {root} does not have: {', '.join(absent)}")
    for folder in sorted(folders):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix.lower() in EXTENSIONS:
                path = file.relative_to(root).as_posix()
                yield Photo(path, owner[folder], folder)


def _read_map(map_file: Path) -> dict[str, str]:
    """Subclass to superclass."""
    form = f'{map_file}: expected a table [superclasses] with lines name = ["subclass", ...]'
    try:
        record = tomllib.loads(map_file.read_text(encoding="utf-8"))["superclasses"]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise DataError(f"{form}: {error!r}") from error
    if not isinstance(record, dict):
        raise DataError(f"{form}, got {record!r}")
    owner: dict[str, str] = {}
    for superclass, subclasses in record.items():
        if not (isinstance(subclasses, list) and all(isinstance(s, str) for s in subclasses)):
            raise DataError(f"{form}, got {superclass} = {subclasses!r}")
        for subclass in subclasses:
            if owner.setdefault(subclass, superclass) != superclass:
                raise DataError(
                    f"{map_file} puts {subclass} in {owner[subclass]} and in {superclass}"
                )
    return owner


def _with_splits(photos: list[Photo], val_fraction: float, test_fraction: float) -> list[Photo]:
    """Give a split to those without, by the hash of the path alone.

    A superclass too small to get a val or a test photo that way is lent the train photo whose hash
    is the highest or the lowest, until its own comes.
    """
    result = list(photos)
    groups: dict[str, list[int]] = defaultdict(list)
    for index, photo in enumerate(photos):
        if photo.split is None:
            groups[photo.superclass].append(index)
            place = _place(photo)
            drawn = "val" if place < test_fraction + val_fraction else "train"
            result[index] = replace(photo, split="test" if place < test_fraction else drawn)
    for members in groups.values():
        members.sort(key=lambda i: _place(photos[i]))
        for split, fraction, end in (("val", val_fraction, -1), ("test", test_fraction, 0)):
            trained = [i for i in members if result[i].split == "train"]
            lacking = not any(result[i].split == split for i in members)
            if fraction and lacking and len(trained) > 1:
                result[trained[end]] = replace(photos[trained[end]], split=split)
    return result


def _place(photo: Photo) -> float:
    """Uniform in 0..1 over paths."""
    digest = hashlib.sha256(photo.path.encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


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


def label_indices(photos: tuple[Photo, ...], data: PhotoSet) -> npt.NDArray[np.int64]:
    """int64 [n]: the place of each photo's superclass in `data.superclasses`."""
    places = {name: place for place, name in enumerate(data.superclasses)}
    return np.array([places[photo.superclass] for photo in photos], dtype=np.int64)
