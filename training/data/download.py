"""Fetch a public dataset over HTTP, go on where a transfer broke off, verify, and unpack.

Nothing is unpacked before its size and checksum are right. The folder gets its name when it is
complete, so that what lies there is never half a dataset.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from training.data.sources import Archive, Source
from training.errors import DataError
from training.progress import track

CHUNK = 1 << 20
TIMEOUT_S = 30.0  # without a byte
TRIES = 5  # of a transfer that breaks off, as long as each brings something
PARTIAL = 206  # RFC 9110, section 15.3.7


def download(source: Source, to: Path, archive: Path | None = None) -> Path:
    """Bring a dataset into a folder.

    Args:
        source: the facts about it.
        to: the folder; it is made where there is none.
        archive: the file, where it was fetched some other way; it is kept.

    Returns:
        The folder that is the dataset, below `to`.

    Raises:
        DataError: where it may not be fetched by a command, cannot be reached, or is not what its
            source says it is.
    """
    wanted = source.archive
    if wanted is None:
        raise DataError(f"{source.title} has to be brought by hand ({source.page}): {source.ask}")
    if (to / wanted.holds).exists():
        raise DataError(f"{to / wanted.holds} is there already; remove it, or name another folder")
    if archive is not None and not archive.is_file():
        raise DataError(f"expected the file {wanted.url} under {archive}, which is none")
    try:
        to.mkdir(parents=True, exist_ok=True)
        file = archive or fetch(wanted, to)
        verify(file, wanted, fetched=archive is None)
        unpack(file, wanted.holds, to)
        if archive is None:
            file.unlink()
    except OSError as error:
        raise DataError(f"{to}: {error}") from error
    return to / wanted.holds


class _Broken(Exception):
    """A transfer that did not begin or broke off, and why."""


def fetch(wanted: Archive, to: Path) -> Path:
    """The file, fetched; what an earlier call brought is kept and gone on from.

    Raises:
        DataError: with what to do, where it cannot be reached or breaks off again and again.
    """
    part = to / f"{Path(wanted.url).name}.part"
    for _ in range(TRIES):
        before = _size(part)
        if before >= wanted.bytes:
            break
        try:
            _go_on(wanted, part)
        except _Broken as broken:
            if _size(part) <= before:
                raise DataError(
                    f"{wanted.url} cannot be fetched ({broken}); fetch it elsewhere "
                    f"({wanted.bytes:,} bytes, {wanted.checksum}) and add --archive FILE"
                ) from broken
    if _size(part) < wanted.bytes:
        raise DataError(
            f"{wanted.url} broke off at {_size(part):,} of {wanted.bytes:,} bytes; the same "
            "command goes on from there"
        )
    return part


def _go_on(wanted: Archive, part: Path) -> None:
    """One request for what is still lacking."""
    have = _size(part)
    with closing(_request(wanted.url, have)) as response:
        if response.status != PARTIAL:
            have = 0  # the server does not know ranges and sends all of it
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise _Broken("the server sends another range than was asked for")
        with (
            part.open("ab" if have else "wb") as stream,
            track(f"{Path(wanted.url).name}, bytes", wanted.bytes, have) as advance,
        ):
            for chunk in _chunks(response, wanted.bytes - have):
                stream.write(chunk)
                advance(len(chunk))


def _request(url: str, have: int) -> HTTPResponse:
    headers = {"User-Agent": "superbin"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()
        raise _Broken(f"the server answers {error.code} {error.reason}") from error
    except (HTTPException, OSError) as error:  # URLError is an OSError
        raise _Broken(str(getattr(error, "reason", error))) from error
    return response


def _chunks(response: HTTPResponse, wanted: int) -> Iterator[bytes]:
    """What the server sends; of more than was wanted one byte, by which the size tells it."""
    left = wanted + 1
    try:
        while left > 0 and (chunk := response.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk
    except (HTTPException, OSError) as error:
        raise _Broken(str(error)) from error
    if left > 1:
        raise _Broken("the connection was closed early")


def verify(file: Path, wanted: Archive, *, fetched: bool) -> None:
    """Compare size and checksum; what was fetched and is wrong is removed.

    Raises:
        DataError: with what was expected and what came.
    """
    algorithm, _, digest = wanted.checksum.partition(":")
    got = _size(file)
    expected, came = f"{wanted.bytes:,} bytes", f"{got:,}"
    if got == wanted.bytes:
        with file.open("rb") as stream:
            came = hashlib.file_digest(stream, algorithm).hexdigest()
        if came == digest:
            return
        expected = f"{algorithm} {digest}"
    if fetched:
        file.unlink()
    raise DataError(
        f"{file}: expected {expected}, got {came}; it is not the file that {wanted.url} is known "
        "for" + (", and was removed" if fetched else "")
    )


def unpack(file: Path, holds: str, to: Path) -> None:
    """Unpack a tar file and move its folder `holds` below `to`: all of it, or nothing.

    Raises:
        DataError: where the file is no tar, has anything but plain files and folders below one
            folder, or does not have the folder.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DataError("unpacking safely needs Python 3.11.4 or later")
    with tempfile.TemporaryDirectory(dir=to, prefix=".unpacking-") as folder:
        try:
            with tarfile.open(file) as tar:
                tar.extractall(folder, filter=_plain)
        except (tarfile.TarError, zlib.error, EOFError) as error:
            raise DataError(f"{file} cannot be unpacked: {error}") from error
        if not (Path(folder) / holds).is_dir():
            raise DataError(f"{file}: expected a folder {holds} in it, which it does not have")
        (to / holds).parent.mkdir(parents=True, exist_ok=True)
        (Path(folder) / holds).rename(to / holds)


def _plain(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Refuse links and devices too, which no dataset has and Python's own filter lets in part."""
    if not (member.isreg() or member.isdir()):
        raise tarfile.ReadError(f"{member.name} is neither a file nor a folder")
    return tarfile.data_filter(member, folder)


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
