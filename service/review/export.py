"""Reviewed photos in the form that training reads: photos, and a `labels.csv` beside them."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from service.review.records import PhotoGone, ReviewedPhoto
from service.review.rows import drawn
from service.review.store import Store

LABELS = "labels.csv"
COLUMNS = ("path", "source", "subclass", "superclass", "split")
FOLDER = "photos"
SOURCE = "review"
VAL_HALF = 2  # of the hash: another draw than those of the store


def newest(store: Store, most: int) -> Iterator[ReviewedPhoto]:
    """The newest reviewed photos, oldest first."""
    return store.reviewed(after=store.reviewed_floor(most))


def export(store: Store, out: Path, val_share: float = 0.0) -> dict[str, int]:
    """Write all reviewed photos and `labels.csv` into a folder.

    Photos that are there already are not written again: an export can be brought up to date.

    Args:
        val_share: of the photos that are not held out, by their hash, that become `val`.

    Returns:
        how many photos there are of each split.

    Raises:
        StoreUnavailable, OSError: where it cannot be read or written.
    """
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    splits: dict[str, int] = {"train": 0, "val": 0, "test": 0}
    part = out / f"{LABELS}.part"
    with part.open("w", encoding="utf-8", newline="") as file:
        file.write(_line(COLUMNS))
        for photo in store.reviewed():
            to = out / path_of(photo)
            if not to.exists():
                try:
                    _write(to, photo.load())
                except PhotoGone:  # it was removed in between
                    continue
            split = split_of(photo, val_share)
            splits[split] += 1
            file.write(_line(_values(photo, split)))
    part.replace(out / LABELS)  # the list is there when all that it names is
    return splits


def csv_lines(photos: Iterable[ReviewedPhoto]) -> Iterator[str]:
    """`labels.csv`, line by line."""
    yield _line(COLUMNS)
    for photo in photos:
        yield _line(_values(photo, split_of(photo)))


def zip_chunks(photos: Iterable[ReviewedPhoto]) -> Iterator[bytes]:
    """A ZIP of photos and `labels.csv`, as it is made; one photo is in memory at a time."""
    pipe = _Pipe()
    labels = [_line(COLUMNS)]
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for photo in photos:
            try:
                data = photo.load()
            except PhotoGone:
                continue
            archive.writestr(path_of(photo), data)
            labels.append(_line(_values(photo, split_of(photo))))
            yield pipe.drain()
        archive.writestr(LABELS, "".join(labels))
    yield pipe.drain()


def path_of(photo: ReviewedPhoto) -> str:
    """Below the folder."""
    return f"{FOLDER}/{photo.photo.sha256}.jpg"


def split_of(photo: ReviewedPhoto, val_share: float = 0.0) -> str:
    """`test` where it is held out, else `train`, or `val` for a share of those."""
    if photo.held_out:
        return "test"
    return "val" if drawn(photo.photo.sha256, val_share, half=VAL_HALF) else "train"


def _values(photo: ReviewedPhoto, split: str) -> tuple[str, ...]:
    source = photo.photo.site or SOURCE
    return path_of(photo), source, photo.subclass or "", photo.superclass, split


def _line(values: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


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
