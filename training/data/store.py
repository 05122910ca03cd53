"""Decoded photos in one file on disk, mapped into memory.

A photo is decoded once, by the service's own code, and its uint8 pixels are kept; epochs, seeds
and resumed runs read them from the page cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from service.errors import PhotoError
from service.preprocess import FORMATS, PhotoLimits, Pixels, Preprocessing, decode
from training.data.photos import Photo, PhotoSet, photo_bytes, photo_file
from training.errors import DataError
from training.progress import track

LIMITS = PhotoLimits(max_bytes=100_000_000, max_pixels=120_000_000)
DECODER_VERSION = 2  # part of the key: raise it when `decode` gives other pixels
WINDOW = 256  # photos in flight


@dataclass(frozen=True)
class PixelStore:
    """Pixels of the photos that decoded, in the photos' order, and those that did not."""

    photos: tuple[Photo, ...]
    pixels: Pixels  # uint8 [n, H, W, 3], memory-mapped, read-only
    bad: dict[str, str]  # path -> what is wrong


def cache_folder() -> Path:
    """`superbin` in the user's cache folder, which `XDG_CACHE_HOME` moves."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "superbin"


def open_store(
    root: Path, photos: tuple[Photo, ...], spec: Preprocessing, cache: Path | None = None
) -> PixelStore:
    """Decode photos, or map the pixels of an earlier call over the same files.

    Args:
        root: the folder that the photos' paths are relative to.
        photos: in the order of the result.
        spec: size and shape to decode to.
        cache: folder for the decoded pixels.

    Raises:
        DataError: where what was decoded cannot be read back.
    """
    folder = (cache or cache_folder()) / "pixels"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{_key(root, photos, spec)}.npy"
    kept = _kept(photos, file)
    if kept is None or not _holds(root, photos, kept[1]):
        _decode_all(root, photos, spec, file)
        kept = _kept(photos, file)
    if kept is None:
        raise DataError(
            f"{file}: expected the pixels that were just written; does another process decode the "
            "same photos, or the disk fail?"
        )
    return kept[0]


def open_split(data: PhotoSet, split: str, spec: Preprocessing) -> PixelStore:
    """`open_store` of a split that is needed.

    Raises:
        DataError: where it has no photo, or none that can be decoded.
    """
    store = open_store(data.root, data.some_of(split), spec)
    if not store.photos:
        path, why = next(iter(store.bad.items()))
        raise DataError(
            f"{data.root}: expected photos in the split {split!r} that can be decoded, got "
            f"{len(store.bad)} that cannot; first: {path}, {why}"
        )
    return store


def _key(root: Path, photos: tuple[Photo, ...], spec: Preprocessing) -> str:
    how = f"{DECODER_VERSION} {' '.join(FORMATS)} {root.resolve()} {spec.model_dump_json()}"
    digest = hashlib.sha256(how.encode())
    for photo in photos:
        status = photo_file(root, photo).stat()
        digest.update(f"{photo.path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def sizes_digest(root: Path, photos: Sequence[Photo]) -> str:
    """SHA-256 of the photos' paths and sizes in bytes, as lower-case hex: others differ in it.

    It is the same for a copy of the folder, as ages are not.
    """
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(f"{photo.path}\0{photo_file(root, photo).stat().st_size}\n".encode())
    return digest.hexdigest()


def _kept(photos: tuple[Photo, ...], file: Path) -> tuple[PixelStore, set[str]] | None:
    """What an earlier call left, and the photos that it could not read.

    None where it is not whole, as a power cut or a kill between the two files leaves it.
    """
    try:
        report = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
        bad, unread = dict(report["bad"]), set(report["unread"])
        pixels = np.load(file, mmap_mode="r")
    except (FileNotFoundError, EOFError, ValueError, LookupError, TypeError):
        return None
    good = tuple(photo for photo in photos if photo.path not in bad)
    return (PixelStore(good, pixels, bad), unread) if len(pixels) == len(good) else None


def _holds(root: Path, photos: tuple[Photo, ...], unread: set[str]) -> bool:
    """Whether the photos that could not be read still cannot: a disk may have been away."""
    for photo in photos:
        if photo.path in unread:
            with suppress(OSError):
                photo_bytes(root, photo)
                return False
    return True


def _decode_all(root: Path, photos: tuple[Photo, ...], spec: Preprocessing, file: Path) -> None:
    """Fill the file; it gets its name, and its report, only when it is whole."""
    _sweep(file.parent)
    part = file.with_name(f"{file.stem}.{socket.gethostname()}.{os.getpid()}.part")
    shape = (len(photos), spec.height, spec.width, 3)
    bad: dict[str, str] = {}
    unread: list[str] = []
    kept = 0

    def load(photo: Photo) -> Pixels | str:
        try:
            return decode(photo_bytes(root, photo), spec, LIMITS)
        except PhotoError as error:
            return str(error)
        except OSError as error:
            unread.append(photo.path)
            return str(error)

    workers = len(os.sched_getaffinity(0))
    waiting = iter(photos)
    try:
        pixels: Any = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        _take_room(part)
        with ThreadPoolExecutor(workers) as pool, track("decoding", len(photos)) as advance:
            while window := list(islice(waiting, WINDOW)):
                for photo, result in zip(window, pool.map(load, window), strict=True):
                    if isinstance(result, str):
                        bad[photo.path] = result
                    else:
                        pixels[kept] = result
                        kept += 1
                    advance(1)
        pixels.flush()
        if bad:  # without the rows that stayed empty
            trimmed = part.with_suffix(".trim")
            with trimmed.open("wb") as stream:
                np.save(stream, pixels[:kept])
            trimmed.replace(part)
        part.replace(file)
        part.write_text(json.dumps({"bad": bad, "unread": sorted(unread)}), encoding="utf-8")
        part.replace(file.with_suffix(".json"))
    finally:
        part.unlink(missing_ok=True)
        part.with_suffix(".trim").unlink(missing_ok=True)


def _take_room(file: Path) -> None:
    """So that a full disk says so now, and not by SIGBUS while pixels are written."""
    with file.open("r+b") as whole:
        try:
            os.posix_fallocate(whole.fileno(), 0, file.stat().st_size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(file)) from error


def _sweep(folder: Path) -> None:
    """Remove what processes of this machine left that were killed while they decoded."""
    for left in folder.glob(f"*.{socket.gethostname()}.*.*"):
        pid = left.suffixes[-2][1:]
        if left.suffix in (".part", ".trim") and not Path("/proc", pid).exists():
            left.unlink(missing_ok=True)
