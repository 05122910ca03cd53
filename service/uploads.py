"""The body of a request, as photos: multipart or one raw image, within the limits.

Starlette's own body limit is not used, since it answers in plain text; the count is kept here, on
the stream, so that a body without a Content-Length is cut off as well.
"""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import BinaryIO

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from service.errors import PhotoTooLarge, SuperbinError
from service.settings import Settings

FIELD = "file"
MULTIPART = "multipart/form-data"
TIMEOUT = "X-Request-Timeout"
EXPECTED = (
    f"expected photos as {MULTIPART} in the field {FIELD!r}, repeated for several, "
    "or one photo as a raw body of type image/*"
)
MAX_TEXT_FIELDS = 8  # none is wanted; a few are parsed to name them in the refusal
MAX_FILENAME = 128
UNPRINTABLE = re.compile(r"[^\w .,()+@#&=~'!-]")


class RequestMalformed(SuperbinError):
    """The body has no photos where they belong."""

    reason = "malformed_request"


class RequestTooLarge(SuperbinError):
    """The whole body is over its limit."""

    reason = "request_too_large"


class TooManyPhotos(SuperbinError):
    """More photos than one request may bring."""

    reason = "too_many_photos"


class RequestSlow(SuperbinError):
    """The body comes too slowly: a bad line, or somebody who wants to keep places taken."""

    reason = "slow_request"


class TimeoutMalformed(SuperbinError):
    """The header that says how long a client waits holds no such time."""

    reason = "malformed_timeout"


class RequestUnsupported(SuperbinError):
    """The body's type or coding is none that is accepted."""

    reason = "unsupported_media_type"


@dataclass(frozen=True)
class Announced:
    """What the headers tell of a body.

    Attributes:
        photos: 1 for a raw body, None for a form, which does not tell.
        nbytes: of the body, at most.
        timeout_s: from the end of the body to the answer.
    """

    photos: int | None
    nbytes: int
    timeout_s: float


@dataclass(frozen=True)
class Upload:
    """One photo as it came, in memory or spooled to disk."""

    filename: str | None
    size: int
    source: BinaryIO
    lock: threading.Lock = field(default_factory=threading.Lock)

    def read(self, max_bytes: int) -> bytes:
        """All of its bytes; may block on the disk.

        Raises:
            PhotoTooLarge: before any is read.
        """
        if self.size > max_bytes:
            raise PhotoTooLarge(f"expected at most {max_bytes:,} bytes a photo, got {self.size:,}")
        with self.lock:
            self.source.seek(0)
            return self.source.read()


def announce(request: Request, settings: Settings) -> Announced:
    """Read the headers alone.

    Raises:
        RequestTooLarge, RequestUnsupported, PhotoTooLarge, TimeoutMalformed: with what was expected
            and what came.
    """
    _check_coding(request)
    timeout_s = _timeout(request, settings)
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == MULTIPART:
        return Announced(None, _announced_bytes(request, settings.max_request_bytes), timeout_s)
    if media_type.startswith("image/"):
        try:
            return Announced(1, _announced_bytes(request, settings.max_raw_bytes), timeout_s)
        except RequestTooLarge as error:
            raise _as_photo(error) from error
    came = f"the type {content_type[:80]!r}" if content_type else "no Content-Type"
    raise RequestUnsupported(f"{EXPECTED}, got {came}")


def announce_body(request: Request, settings: Settings) -> Announced:
    """Read the headers of a body that is neither a form nor a photo.

    Raises:
        RequestTooLarge, RequestUnsupported, TimeoutMalformed: with what was expected and what came.
    """
    _check_coding(request)
    nbytes = _announced_bytes(request, settings.max_request_bytes)
    return Announced(None, nbytes, _timeout(request, settings))


async def read_body(request: Request, settings: Settings) -> bytes:
    """All of a body that `announce_body` announced.

    Raises:
        RequestTooLarge, RequestSlow: with what was expected and what came.
    """
    async with aclosing(_limited(request, settings.max_request_bytes, settings)) as stream:
        return b"".join([chunk async for chunk in stream])


def _check_coding(request: Request) -> None:
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise RequestUnsupported(f"expected a body without Content-Encoding, got {coding[:40]!r}")


def _announced_bytes(request: Request, max_bytes: int) -> int:
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal():
        return max_bytes
    if int(declared) > max_bytes:
        raise RequestTooLarge(
            f"expected at most {max_bytes:,} bytes a request, got {int(declared):,}"
        )
    return int(declared)


def _timeout(request: Request, settings: Settings) -> float:
    given = request.headers.get(TIMEOUT)
    if given is None:
        return settings.timeout_s
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", given, re.ASCII) or not float(given):
        raise TimeoutMalformed(f"expected {TIMEOUT} in seconds, such as 0.5, got {given[:40]!r}")
    return min(float(given), settings.timeout_s)


@asynccontextmanager
async def receive(
    request: Request, announced: Announced, settings: Settings
) -> AsyncIterator[list[Upload]]:
    """The photos of a request, in order; their files are closed at the end.

    Raises:
        RequestMalformed, RequestTooLarge, RequestSlow, TooManyPhotos, PhotoTooLarge: with what was
            expected and what came.
    """
    if announced.photos is None:
        form = await _form(request, settings)
        try:
            yield _photos(form, settings)
        finally:
            await form.close()
    else:
        data = await _raw(request, settings)
        yield [Upload(None, len(data), io.BytesIO(data))]


async def _form(request: Request, settings: Settings) -> FormData:
    async with aclosing(_limited(request, settings.max_request_bytes, settings)) as stream:
        parser = MultiPartParser(
            request.headers,
            stream,
            max_files=settings.max_photos,
            max_fields=MAX_TEXT_FIELDS,
        )
        try:
            return await parser.parse()
        except MultiPartException as error:
            if error.message.startswith("Too many files"):
                raise TooManyPhotos(
                    f"expected at most {settings.max_photos} photos a request, got more"
                ) from error
            raise RequestMalformed(f"{EXPECTED}, got a broken body: {error.message}") from error


def _photos(form: FormData, settings: Settings) -> list[Upload]:
    photos, strays = [], []
    for name, value in form.multi_items():
        if name == FIELD and isinstance(value, UploadFile):
            photos.append(Upload(clean_filename(value.filename), value.size or 0, value.file))
        else:
            kind = "a file" if isinstance(value, UploadFile) else "text, without a filename"
            strays.append(f"{name[:40]!r} ({kind})")
    if strays:
        raise RequestMalformed(f"{EXPECTED}, got the field {', '.join(strays[:MAX_TEXT_FIELDS])}")
    if not photos:
        raise RequestMalformed(f"{EXPECTED}, got a form without any field")
    return photos


async def _raw(request: Request, settings: Settings) -> bytes:
    try:
        async with aclosing(_limited(request, settings.max_raw_bytes, settings)) as stream:
            return b"".join([chunk async for chunk in stream])
    except RequestTooLarge as error:
        raise _as_photo(error) from error


def _as_photo(error: RequestTooLarge) -> PhotoTooLarge:
    """Where the body is the photo."""
    return PhotoTooLarge(str(error).replace("a request", "a photo"))


async def _limited(
    request: Request, max_bytes: int, settings: Settings
) -> AsyncGenerator[bytes, None]:
    """The body's chunks, no more of them than allowed and no slower.

    Each chunk earns the rest time, as in Apache's mod_reqtimeout.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    received = 0
    async with aclosing(request.stream()) as stream:
        while True:
            allowed_s = settings.body_timeout_s + received / settings.body_min_rate
            try:
                async with asyncio.timeout_at(started + allowed_s):
                    chunk = await anext(stream, None)
            except TimeoutError as error:
                raise RequestSlow(
                    f"expected the body within {settings.body_timeout_s:g} s and then at "
                    f"{settings.body_min_rate:,} bytes a second, got {received:,} bytes in "
                    f"{loop.time() - started:.1f} s"
                ) from error
            if chunk is None:
                return
            received += len(chunk)
            if received > max_bytes:
                raise RequestTooLarge(f"expected at most {max_bytes:,} bytes a request, got more")
            yield chunk


def clean_filename(filename: str | None) -> str | None:
    """The last part of a client's path, without anything that a terminal or a page could obey."""
    last = re.split(r"[/\\]", filename or "")[-1]
    clean = UNPRINTABLE.sub("_", last).strip()
    return clean[:MAX_FILENAME] or None
