"""The photos' files, each under the hash of its content: a folder, or whatever fsspec reaches."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TypeVar

import fsspec

from service.extras import how_to_install
from service.review.records import PhotoGone, StoreError, StoreUnavailable

SUFFIX = ".jpg"
PART = ".part"
MARK = "superbin-review"  # the file that says to which database the photos belong
PART_S = 3600.0  # after which nobody is still writing it
_PHOTO = rf"(?P<folder>[0-9a-f]{{2}})/(?P<sha256>(?P=folder)[0-9a-f]{{62}}){re.escape(SUFFIX)}"
_PART = rf"({_PHOTO}|{MARK})\.[0-9a-f]{{16}}{re.escape(PART)}"
T = TypeVar("T")


class PhotoFiles:
    """Write once, read, remove; a name is there with all of its bytes or not at all."""

    def __init__(self, url: str, *, made: bool = True) -> None:
        """Open the folder.

        Args:
            made: whether it is made where there is none.

        Raises:
            StoreError: where it cannot be used.
        """
        self.url = url
        try:
            options = {} if _is_local(url) else {"use_listings_cache": False}
            self._fs, self._root = fsspec.core.url_to_fs(url, **options)
            if made and _is_local(url):
                Path(self._root).mkdir(parents=True, exist_ok=True)
            self._fs.ls(self._root, detail=False)
        except ImportError as error:
            raise StoreError(
                f"SUPERBIN_REVIEW_PHOTOS: {url} needs a package that is not installed ({error}): "
                f"for s3:// {how_to_install('s3')}"
            ) from error
        except FileNotFoundError as error:
            if not made:
                raise StoreError(f"expected photos in {url}, and there is nothing") from error
            self._require_bucket(error)
        except Exception as error:  # every file system has errors of its own
            raise _unusable(url, error) from error

    def write(self, sha256: str, data: bytes) -> None:
        """Put a photo there, for good when this returns.

        Raises:
            StoreUnavailable: where that cannot be done now.
        """
        self._put(self._path(sha256), data)

    def read(self, sha256: str) -> bytes:
        """A photo's bytes.

        Raises:
            PhotoGone, StoreUnavailable: where it is not there, or that is not to be known.
        """
        try:
            data: bytes = _attempt(lambda: self._fs.cat_file(self._path(sha256)))
        except FileNotFoundError as error:
            raise PhotoGone(f"expected a photo that is kept, got {sha256[:12]}") from error
        return data

    def exists(self, sha256: str) -> bool:
        """Whether it is there.

        Raises:
            StoreUnavailable: where that is not to be known.
        """
        try:  # not `isfile`, which takes every error for a no
            kind: str = _attempt(lambda: self._fs.info(self._path(sha256))["type"])
        except FileNotFoundError:
            return False
        return kind == "file"

    def remove(self, sha256: str) -> None:
        """Let it be gone.

        Raises:
            StoreUnavailable: where that cannot be done now.
        """
        with contextlib.suppress(FileNotFoundError):
            _attempt(lambda: self._fs.rm_file(self._path(sha256)))

    def listed(self) -> Iterator[str]:
        """The hash of every photo that is there; of other files, whatever their names, none.

        Raises:
            StoreUnavailable: where that is not to be known.
        """
        for path in _attempt(lambda: self._fs.find(self._root)):
            if photo := re.fullmatch(_PHOTO, path.removeprefix(f"{self._root}/")):
                yield photo["sha256"]

    def owner(self) -> str | None:
        """The id of the database to which the photos belong; None where they are not marked.

        Raises:
            StoreUnavailable: where that is not to be known.
        """
        try:
            data: bytes = _attempt(lambda: self._fs.cat_file(self._mark))
        except FileNotFoundError:
            return None
        return data.decode("ascii", "replace").strip()

    def mark(self, owner: str) -> None:
        """Let the photos belong to a database, for good when this returns.

        Raises:
            StoreUnavailable: where that cannot be done now.
        """
        self._put(self._mark, f"{owner}\n".encode())

    def sweep_parts(self) -> None:
        """Remove what was begun here and never finished, long ago; others may be writing now."""
        if not _is_local(self.url):
            return
        root = Path(self._root)
        for part in chain(root.glob(f"*{PART}"), root.glob(f"??/*{PART}")):
            if re.fullmatch(_PART, part.relative_to(root).as_posix()):
                with contextlib.suppress(OSError):
                    if time.time() - part.stat().st_mtime > PART_S:
                        part.unlink()

    def _require_bucket(self, missing: Exception) -> None:
        """A folder of an object store need not exist; its bucket must, and must be open to us."""
        try:
            self._fs.ls(self._root.split("/", 1)[0], detail=False)
        except Exception as error:  # every file system has errors of its own
            raise _unusable(self.url, error) from missing

    def _put(self, path: str, data: bytes) -> None:
        if _is_local(self.url):
            _attempt(lambda: _write_durably(Path(path), data))
        else:  # an object store shows an object once it has all of it
            _attempt(lambda: self._fs.pipe_file(path, data))

    @property
    def _mark(self) -> str:
        return f"{self._root}/{MARK}"

    def _path(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}{SUFFIX}"


def _is_local(url: str) -> bool:
    return "://" not in url or url.startswith("file://")


def _unusable(url: str, error: Exception) -> StoreError:
    return StoreError(
        "expected SUPERBIN_REVIEW_PHOTOS as a folder or a URL such as s3://bucket/photos, and "
        f"{url} cannot be used: {type(error).__name__}: {error}"
    )


def _attempt(act: Callable[[], T]) -> T:
    try:
        return act()
    except FileNotFoundError:
        raise
    except Exception as error:  # every file system has errors of its own
        raise StoreUnavailable(
            f"the review photos cannot be reached: {type(error).__name__}: {error}"
        ) from error


def _write_durably(path: Path, data: bytes) -> None:
    """Into a part file that is on the disk before it gets its name, and then the name too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    for folder in (path.parent, path.parent.parent):
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
