"""Reviewed photos in the form that training reads: photos, and a `labels.csv` beside them."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from service.review.records import EXPORT_FOLDER, PhotoGone, ReviewedPhoto, StoreError
from service.review.rows import drawn
from service.review.store import Store

LABELS = "labels.csv"
MISSING = "missing.csv"
COLUMNS = ("path", "source", "subclass", "superclass", "split")
SOURCE = "review"
VAL_HALF = 2  # of the hash: another draw than those of the store


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        splits: how many photos there are of each.
        missing: reviewed photos whose files are not there.
    """

    splits: dict[str, int]
    missing: int


def newest(store: Store, most: int) -> Iterator[ReviewedPhoto]:
    """The newest reviewed photos, oldest first."""
    return store.reviewed(after=store.reviewed_floor(most))


def export(
    store: Store, out: Path, val_share: float = 0.0, *, lists_missing: bool = False
) -> Exported:
    """Write all reviewed photos and `labels.csv` into a folder.

    Photos that are there already are not written again: an export can be brought up to date.

    Args:
        val_share: of the photos that are not held out, by their hash, that become `val`.
        lists_missing: whether `labels.csv` names photos whose files are missing, too.

    Raises:
        StoreError: where there are reviewed photos, and the file of none of them.
        StoreUnavailable, OSError: where it cannot be read or written.
    """
    (out / EXPORT_FOLDER).mkdir(parents=True, exist_ok=True)
    splits: dict[str, int] = {"train": 0, "val": 0, "test": 0}
    missing = 0
    part = out / f"{LABELS}.part"
    with part.open("w", encoding="utf-8", newline="") as file:
        file.write(_line(COLUMNS))
        for photo in store.reviewed():
            split = split_of(photo, val_share)
            there = _fetch(photo, out)
            splits[split] += there
            missing += not there
            if there or lists_missing:
                file.write(_line(_values(photo, split)))
    if missing and not any(splits.values()):
        part.unlink()
        raise StoreError(
            f"{store.database_name} lists {missing:,} reviewed photos, and {store.photos_url} has "
            "the file of none of them: it is another folder, or they were removed"
        )
    part.replace(out / LABELS)  # the list is there when all that it names is
    return Exported(splits, missing)


def csv_lines(photos: Iterable[ReviewedPhoto]) -> Iterator[str]:
    """`labels.csv`, line by line."""
    yield _line(COLUMNS)
    for photo in photos:
        yield _line(_values(photo, split_of(photo)))


def zip_chunks(photos: Iterable[ReviewedPhoto]) -> Iterator[bytes]:
    """A ZIP of photos and `labels.csv`, as it is made; one photo is in memory at a time.

    Photos whose files are missing are listed in `missing.csv` instead, if there are any.
    """
    pipe = _Pipe()
    labels, missing = [_line(COLUMNS)], [_line(COLUMNS)]
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for photo in photos:
            line = _line(_values(photo, split_of(photo)))
            try:
                data = photo.load()
            except PhotoGone:
                missing.append(line)
                continue
            archive.writestr(photo.photo.export_path, data)
            labels.append(line)
            yield pipe.drain()
        archive.writestr(LABELS, "".join(labels))
        if missing[1:]:
            archive.writestr(MISSING, "".join(missing))
    yield pipe.drain()


def split_of(photo: ReviewedPhoto, val_share: float = 0.0) -> str:
    """`test` where it is held out, else `train`, or `val` for a share of those."""
    if photo.held_out:
        return "test"
    return "val" if drawn(photo.photo.sha256, val_share, half=VAL_HALF) else "train"


def _values(photo: ReviewedPhoto, split: str) -> tuple[str, ...]:
    source = photo.photo.site or SOURCE
    return photo.photo.export_path, source, photo.subclass or "", photo.superclass, split


def _line(values: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _fetch(photo: ReviewedPhoto, out: Path) -> bool:
    """Copy a photo, if it is not there yet; False where its file is missing."""
    to = out / photo.photo.export_path
    if not to.exists():
        try:
            _write(to, photo.load())
        except PhotoGone:
            return False
    return True


def _write(to: Path, data: bytes) -> None:
    part = to.with_name(f"{to.name}.part")
    part.write_bytes(data)
    part.replace(to)


class _Pipe(io.RawIOBase):
    """What was written since it was last drained; it cannot be gone back in."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        written = bytes(data)  # type: ignore[call-overload]
        self._written += written
        return len(written)

    def drain(self) -> bytes:
        drained = bytes(self._written)
        self._written.clear()
        return drained
