"""Reviewed photos in the form that training reads: photos, and a `labels.csv` beside them.

Photos of no refuse lie beside the others, and are none of theirs: `no_refuse.csv` lists them, with
the same columns and without a superclass.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from service.review.records import EXPORT_FOLDER, KeptPhoto, PhotoGone, ReviewedPhoto, StoreError
from service.review.rows import drawn
from service.review.store import Store

LABELS = "labels.csv"
NO_REFUSE = "no_refuse.csv"
MISSING = "missing.csv"
COLUMNS = ("path", "source", "subclass", "superclass", "split")
SPLITS = ("train", "val", "test")
SOURCE = "review"
VAL_HALF = 2  # of the hash: another draw than those of the store


Listed = tuple[KeptPhoto, tuple[str, ...]]  # a photo, and its values for a list


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        splits: how many photos there are of each.
        no_refuse: photos of no refuse.
        missing: photos of both whose files are not there.
    """

    splits: dict[str, int]
    no_refuse: int
    missing: int


def newest(store: Store, most: int) -> Iterator[ReviewedPhoto]:
    """The newest reviewed photos, oldest first."""
    return store.reviewed(after=store.reviewed_floor(most))


def export(
    store: Store, out: Path, val_share: float = 0.0, *, lists_missing: bool = False
) -> Exported:
    """Write all reviewed photos and `labels.csv` into a folder, and `no_refuse.csv` if need be.

    Photos that are there already are not written again: an export can be brought up to date.

    Args:
        val_share: of the photos that are not held out, by their hash, that become `val`.
        lists_missing: whether the lists name photos whose files are missing, too.

    Raises:
        StoreError: where there are reviewed photos, and the file of none of them.
        StoreUnavailable, OSError: where it cannot be read or written.
    """
    (out / EXPORT_FOLDER).mkdir(parents=True, exist_ok=True)
    parts = {name: out / f"{name}.part" for name in (NO_REFUSE, LABELS)}
    foreign = (_unlabelled(photo, val_share) for photo in store.no_refuse())
    labelled = (_labelled(photo, val_share) for photo in store.reviewed())
    others, lost = _write_list(parts[NO_REFUSE], out, foreign, lists_missing)
    splits, missing = _write_list(parts[LABELS], out, labelled, lists_missing)
    missing += lost
    if missing and not any((*splits.values(), *others.values())):
        for part in parts.values():
            part.unlink()
        raise StoreError(
            f"{store.database_name} lists {missing:,} reviewed photos, and {store.photos_url} has "
            "the file of none of them: it is another folder, or they were removed"
        )
    if not lost and not any(others.values()):
        parts.pop(NO_REFUSE).unlink()
        (out / NO_REFUSE).unlink(missing_ok=True)
    for name, part in parts.items():
        part.replace(out / name)  # a list is there when all that it names is
    return Exported(splits, sum(others.values()), missing)


def csv_lines(photos: Iterable[ReviewedPhoto]) -> Iterator[str]:
    """`labels.csv`, line by line."""
    yield _line(COLUMNS)
    for photo in photos:
        yield _line(_labelled(photo)[1])


def zip_chunks(
    photos: Iterable[ReviewedPhoto], foreign: Iterable[KeptPhoto] = ()
) -> Iterator[bytes]:
    """A ZIP of photos and `labels.csv`, as it is made; one photo is in memory at a time.

    Photos of no refuse are listed in `no_refuse.csv`, and last photos whose files are missing in
    `missing.csv`, if there are any.
    """
    pipe = _Pipe()
    lines: dict[str, list[str]] = {name: [_line(COLUMNS)] for name in (LABELS, NO_REFUSE, MISSING)}
    listed = chain(
        ((LABELS, _labelled(photo)) for photo in photos),
        ((NO_REFUSE, _unlabelled(photo)) for photo in foreign),
    )
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, (photo, values) in listed:
            if photo.export_path in archive.NameToInfo:  # it is called otherwise since
                continue
            try:
                data = photo.load()
            except PhotoGone:
                lines[MISSING].append(_line(values))
                continue
            archive.writestr(photo.export_path, data)
            lines[name].append(_line(values))
            yield pipe.drain()
        for name, those in lines.items():
            if name == LABELS or those[1:]:
                archive.writestr(name, "".join(those))
    yield pipe.drain()


def split_of(photo: KeptPhoto, val_share: float = 0.0) -> str:
    """`test` where it is held out, else `train`, or `val` for a share of those."""
    if photo.held_out:
        return "test"
    return "val" if drawn(photo.sha256, val_share, half=VAL_HALF) else "train"


def _labelled(one: ReviewedPhoto, val_share: float = 0.0) -> Listed:
    return _listed(one.photo, one.subclass or "", one.superclass, val_share)


def _unlabelled(photo: KeptPhoto, val_share: float = 0.0) -> Listed:
    return _listed(photo, "", "", val_share)


def _listed(photo: KeptPhoto, subclass: str, superclass: str, val_share: float) -> Listed:
    split = split_of(photo, val_share)
    return photo, (photo.export_path, photo.site or SOURCE, subclass, superclass, split)


def _write_list(
    part: Path, out: Path, listed: Iterable[Listed], lists_missing: bool
) -> tuple[dict[str, int], int]:
    """A list and the photos that it names: how many there are of each split, and are missing."""
    splits, missing = dict.fromkeys(SPLITS, 0), 0
    with part.open("w", encoding="utf-8", newline="") as file:
        file.write(_line(COLUMNS))
        for photo, values in listed:
            there = _fetch(photo, out)
            splits[values[-1]] += there
            missing += not there
            if there or lists_missing:
                file.write(_line(values))
    return splits, missing


def _line(values: Iterable[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _fetch(photo: KeptPhoto, out: Path) -> bool:
    """Copy a photo, if it is not there yet; False where its file is missing."""
    to = out / photo.export_path
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
