"""One labelled photo, and what the readers of the layouts share: safe names, text, and the hash."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from training.errors import DataError

NOT_UTF_8 = "its name is not in UTF-8"


@dataclass(frozen=True)
class Photo:
    """One labelled photo; `path` is relative to the dataset's folder, `file` where it is not."""

    path: str
    superclass: str
    subclass: str | None = None
    source: str | None = None
    split: str | None = None
    file: Path | None = None

    def label(self) -> dict[str, str | None]:
        """All that is known of it but where it lies, as plain values."""
        return {key: value for key, value in vars(self).items() if key != "file"}


@dataclass(frozen=True)
class LeftOut:
    """A photo of the dataset without a usable label or name, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Found:
    """A dataset in its official layout, as its reader gets it.

    Attributes:
        root: the folder that was named; paths of photos are relative to it.
        folder: where the layout begins, `root` or below.
        owner: subclass, or whatever the dataset's map names, to superclass.
        val_fraction: share of the official train split that becomes val, where there is no val.
    """

    root: Path
    folder: Path
    owner: dict[str, str]
    val_fraction: float

    def path(self, name: str) -> str:
        """Of a file that the layout calls `name`."""
        return (self.folder.relative_to(self.root) / name).as_posix()

    def label(
        self, name: str, label: str, subclass: str, source: str, split: str | None
    ) -> Photo | LeftOut:
        """The photo `name` with the superclass of `label`, or left out where it has none."""
        path = self.path(name)
        if (told := legible(path)) != path:
            return LeftOut(told, NOT_UTF_8)
        if label not in self.owner:
            return LeftOut(path, f"no superclass has {label!r}")
        return Photo(path, self.owner[label], subclass, source, split)

    def draw_val(self, photo: Photo | LeftOut, key: str) -> Photo | LeftOut:
        """A train photo moves to val by the hash of `key`; what shares a key stays together."""
        if isinstance(photo, LeftOut) or photo.split != "train":
            return photo
        return replace(photo, split="val") if place(key) < self.val_fraction else photo


def place(key: str) -> float:
    """Uniform in 0..1 over keys."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def legible(path: str) -> str:
    """A file's path with escapes in place of bytes that are not UTF-8; other paths as they are."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_below(path: str) -> bool:
    """Whether a path from a dataset's file stays in the dataset's folder."""
    pure = PurePath(path)
    return not pure.is_absolute() and ".." not in pure.parts and "\0" not in path


def is_name(text: str) -> bool:
    """Whether a text from a dataset's file can only be the name of one file or folder."""
    return text not in ("", ".", "..") and not any(mark in text for mark in "/\\\0")


def read_text(file: Path) -> str:
    """A text file of a dataset, without the byte order mark that some programs write.

    Raises:
        DataError: where it cannot be read as UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected text in UTF-8: {error}") from error
    except OSError as error:
        raise DataError(f"{file}: expected a text file: {error.strerror}") from error


def read_table(
    file: Path, needed: tuple[str, ...], *, tabs: bool = False
) -> Iterator[tuple[str, dict[str, str]]]:
    """The needed columns of a table with a header, each row with its place for a message.

    Raises:
        DataError: where a needed column is missing or a row ends before it.
    """
    reader = csv.DictReader(
        io.StringIO(read_text(file), newline=""),
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
    )
    try:
        names = [name.strip() for name in reader.fieldnames or ()]
        if lacking := [name for name in needed if name not in names]:
            raise DataError(
                f"{file}: expected columns {', '.join(lacking)}, got {', '.join(names)}"
            )
        reader.fieldnames = names
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            if short := [name for name in needed if row[name] is None]:
                raise DataError(f"{where}: expected {len(names)} values, got none for {short[0]}")
            yield where, {name: row[name].strip() for name in needed}
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from error
