"""One's own photos: a `labels.csv`, or a folder for each subclass and a map.

`labels.csv`: a header and one line a photo, `path,source,subclass,superclass,split`; only `path`
(relative to the folder) and `superclass` are required.

    path,superclass,split
    images/0001.jpg,organic,train

`no_refuse.csv` may lie beside it, as an export of a review store has it: photos that are of no
superclass, with the same columns but that one.

Folder per class: `<subclass>/*.jpg`, and a map from subclass to superclass in `superclasses.toml`
(`training.data.superclass_map`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from training.data.photo import NOT_UTF_8, LeftOut, Photo, is_below, legible, read_text
from training.data.superclass_map import read_map
from training.errors import DataError

LABELS = "labels.csv"
NO_REFUSE = "no_refuse.csv"
COLUMNS = ("path", "source", "subclass", "superclass", "split")
PhotoOf = Callable[[str, dict[str, str | None]], Photo]  # of a line, given where it stands
SPLITS = ("train", "val", "test")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".avif", ".heic"})
OTHER_IMAGES = frozenset(
    {".tif", ".tiff", ".jfif", ".jpe", ".heif", ".jp2", ".jxl", ".svg", ".dng", ".cr2", ".nef"}
)


def read_labels(file: Path) -> Iterator[Photo]:
    """The photos of a `labels.csv`.

    Raises:
        DataError: with the line, where one is unusable.
    """
    yield from _read(file, {"path", "superclass"}, _labelled)


def read_no_refuse(root: Path) -> Iterator[Photo]:
    """The photos of a folder's `no_refuse.csv`, if it has one; their superclass is empty.

    Raises:
        DataError: with the line, where one is unusable, or names a superclass.
    """
    if (root / NO_REFUSE).is_file():
        yield from _read(root / NO_REFUSE, {"path"}, _unlabelled)


def _read(file: Path, needed: set[str], photo_of: PhotoOf) -> Iterator[Photo]:
    with io.StringIO(read_text(file), newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            yield from _rows(file, reader, needed, photo_of)
        except csv.Error as error:
            raise DataError(
                f"{file}, line {reader.line_num}: {error}; is a double quote left open before it?"
            ) from error


def _rows(
    file: Path, reader: csv.DictReader[str], needed: set[str], photo_of: PhotoOf
) -> Iterator[Photo]:
    columns = list(reader.fieldnames or ())
    names = set(columns)
    unknown, lacking = names - set(COLUMNS), needed - names
    if unknown or lacking or len(names) < len(columns):
        raise DataError(
            f"{file}: expected the columns {','.join(COLUMNS)} ({' and '.join(sorted(needed))} at "
            "least), "
            f"each once, got {','.join(columns) or 'nothing'}"
        )
    for row in reader:
        where = f"{file}, line {reader.line_num}"
        if None in row:  # where DictReader puts what has no column
            raise DataError(
                f"{where}: expected {len(columns)} values, got more; a value "
                "that has a comma goes in double quotes"
            )
        yield photo_of(where, {key: (row[key] or "").strip() or None for key in names})


def _labelled(where: str, values: dict[str, str | None]) -> Photo:
    if values["path"] is None or values["superclass"] is None:
        raise DataError(f"{where}: path and superclass are required")
    return _photo(where, values["path"], values["superclass"], values)


def _unlabelled(where: str, values: dict[str, str | None]) -> Photo:
    if values["path"] is None:
        raise DataError(f"{where}: path is required")
    if superclass := values.get("superclass"):
        raise DataError(f"{where}: expected no superclass of no refuse, got {superclass}")
    return _photo(where, values["path"], "", values)


def _photo(where: str, path: str, superclass: str, values: dict[str, str | None]) -> Photo:
    split = values.get("split")
    if not is_below(path):
        raise DataError(f"{where}: expected a path below the folder, got {path}")
    if split is not None and split not in SPLITS:
        raise DataError(f"{where}: expected a split of {', '.join(SPLITS)}, got {split!r}")
    path = PurePosixPath(path).as_posix()  # one name for one file: ./a.jpg is a.jpg
    return Photo(path, superclass, values.get("subclass"), values.get("source"), split)


def read_folders(root: Path, map_file: Path) -> Iterator[Photo | LeftOut]:
    """The photos of folders that are named after subclasses; other images are left out.

    Raises:
        DataError: where folders and map do not fit each other.
    """
    owner = read_map(map_file)
    folders = {
        folder.name for folder in root.iterdir() if folder.is_dir() and folder.name[0] != "."
    }
    if strays := [legible(name) for name in sorted(folders - set(owner))]:
        raise DataError(f"{map_file} names no superclass for the folders {', '.join(strays)}")
    if absent := sorted(set(owner) - folders):
        raise DataError(f"{map_file} names folders that {root} does not have: {', '.join(absent)}")
    for folder in sorted(folders):
        for file in sorted((root / folder).rglob("*")):
            name = file.relative_to(root).as_posix()
            if file.suffix.lower() not in EXTENSIONS | OTHER_IMAGES:
                continue
            if (path := legible(name)) != name:
                yield LeftOut(path, NOT_UTF_8)
            elif file.suffix.lower() in EXTENSIONS:
                yield Photo(path, owner[folder], folder)
            else:
                yield LeftOut(path, f"expected a photo, {', '.join(sorted(EXTENSIONS))}")
