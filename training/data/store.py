"""Decoded photos in one file on disk, mapped into memory.

A photo is decoded once, by the service's own code, and its uint8 pixels are kept; epochs, seeds
and resumed runs read them from the page cache.
"""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from service.errors import PhotoError
from service.preprocess import PhotoLimits, Pixels, Preprocessing, decode
from training.data.photos import Photo, photo_bytes, photo_file
from training.progress import track

LIMITS = PhotoLimits(max_bytes=100_000_000, max_pixels=120_000_000)
DECODER_VERSION = 1  # part of the key: raise it when `decode` gives other pixels
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
    """
    folder = (cache or cache_folder()) / "pixels"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{_key(root, photos, spec)}.npy"
    report = file.with_suffix(".json")
    if not (report.is_file() and file.is_file()):
        _decode_all(root, photos, spec, file)
    bad: dict[str, str] = json.loads(report.read_text(encoding="utf-8"))
    good = tuple(photo for photo in photos if photo.path not in bad)
    return PixelStore(good, np.load(file, mmap_mode="r"), bad)


def _key(root: Path, photos: tuple[Photo, ...], spec: Preprocessing) -> str:
    digest = hashlib.sha256(f"{DECODER_VERSION} {root.resolve()} {spec.model_dump_json()}".encode())
    for photo in photos:
        status = photo_file(root, photo).stat()
        digest.update(f"{photo.path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _decode_all(root: Path, photos: tuple[Photo, ...], spec: Preprocessing, file: Path) -> None:
    """Fill the file; it gets its name, and its report, only when it is whole."""
    part = file.with_suffix(f".{os.getpid()}.part")
    shape = (len(photos), spec.height, spec.width, 3)
    pixels: Any = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    bad: dict[str, str] = {}
    kept = 0

    def load(photo: Photo) -> Pixels | str:
        try:
            return decode(photo_bytes(root, photo), spec, LIMITS)
        except (PhotoError, OSError) as error:
            return str(error)

    workers = len(os.sched_getaffinity(0))
    waiting = iter(photos)
    try:
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
        part.write_text(json.dumps(bad), encoding="utf-8")
        part.replace(file.with_suffix(".json"))
    finally:
        part.unlink(missing_ok=True)
