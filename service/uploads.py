"""The body of a request, as photos: multipart or one raw image, within the limits.

The count is kept on the stream, so that a body without a Content-Length is cut off as well.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request

from service.announced import (
    EXPECTED,
    FIELD,
    JSON,
    Announced,
    RequestTooLarge,
    RequestUnsupported,
    announced_bytes,
    as_photo,
    check_coding,
)
from service.errors import PhotoTooLarge, SuperbinError
from service.multipart import MultipartBroken, Part, Parts, TooManyParts
from service.settings import Settings

MAX_TEXT_FIELDS = 8  # none is wanted; a few are parsed to name them in the refusal
MAX_FILENAME = 128
Grow = Callable[[int, int], None]
UNPRINTABLE = re.compile(r"[^\w .,()+@#&=~'!-]")


class RequestMalformed(SuperbinError):
    """The body has no photos where they belong."""

    reason = "malformed_request"


class TooManyPhotos(SuperbinError):
    """More photos than one request may bring."""

    reason = "too_many_photos"


class RequestSlow(SuperbinError):
    """The body comes too slowly: a bad line, or somebody who wants to keep places taken."""

    reason = "slow_request"


@dataclass(frozen=True)
class Upload:
    """One photo as it came; without its data where it is too large."""

    filename: str | None
    size: int
    data: bytes | None

    def read(self, max_bytes: int) -> bytes:
        """All of its bytes.

        Raises:
            PhotoTooLarge: where there are more than so many.
        """
        if self.data is None or self.size > max_bytes:
            raise PhotoTooLarge(f"expected at most {max_bytes:,} bytes a photo, got {self.size:,}")
        return self.data


async def read_body(request: Request, settings: Settings, grow: Grow) -> bytes:
    """All of a body that `announce_body` announced.

    Raises:
        RequestTooLarge, RequestSlow: with what was expected and what came; and what `grow` does.
    """
    return await _body(request, settings.max_request_bytes, settings, grow)


async def read_json(request: Request, max_bytes: int, settings: Settings) -> bytes:
    """All of a small body of JSON.

    Raises:
        RequestTooLarge, RequestSlow, RequestUnsupported: with what was expected and what came.
    """
    check_coding(request)
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise RequestUnsupported(f"expected a body of type {JSON}, got {content_type[:80]!r}")
    announced_bytes(request, max_bytes)
    return await _body(request, max_bytes, settings, lambda photos, nbytes: None)


async def receive(
    request: Request, announced: Announced, settings: Settings, grow: Grow
) -> list[Upload]:
    """The photos of a request, in order.

    Args:
        grow: finds places for so many photos and bytes in all, before they come; it may raise.

    Raises:
        RequestMalformed, RequestTooLarge, RequestSlow, TooManyPhotos, PhotoTooLarge: with what was
            expected and what came.
    """
    if announced.photos is None:
        return _photos(await _form(request, settings, grow))
    try:
        data = await _body(request, settings.max_raw_bytes, settings, grow)
    except RequestTooLarge as error:
        raise as_photo(error) from error
    return [Upload(None, len(data), data)]


async def _form(request: Request, settings: Settings, grow: Grow) -> list[Part]:
    try:
        parts = Parts(
            request.headers["content-type"],
            max_files=settings.max_photos,
            max_fields=MAX_TEXT_FIELDS,
            max_size=settings.max_photo_bytes,
        )
        photos = 1

        def take(chunk: bytes) -> None:
            nonlocal photos
            parts.write(chunk)
            if parts.files > photos:
                photos = parts.files
                grow(photos, 0)

        await _feed(request, take, settings.max_request_bytes, settings, grow)
        return parts.finish()
    except TooManyParts as error:
        raise TooManyPhotos(
            f"expected at most {settings.max_photos} photos a request, got more"
        ) from error
    except MultipartBroken as error:
        raise RequestMalformed(f"{EXPECTED}, got a broken body: {error}") from error


def _photos(parts: list[Part]) -> list[Upload]:
    photos, strays = [], []
    for part in parts:
        if part.is_file and part.field == FIELD:
            photos.append(Upload(clean_filename(part.filename), part.size, part.data))
        else:
            kind = "a file" if part.is_file else "text, without a filename"
            strays.append(f"{part.field[:40]!r} ({kind})")
    if strays:
        raise RequestMalformed(f"{EXPECTED}, got the field {', '.join(strays[:MAX_TEXT_FIELDS])}")
    if not photos:
        raise RequestMalformed(f"{EXPECTED}, got a form without any field")
    return photos


async def _body(request: Request, max_bytes: int, settings: Settings, grow: Grow) -> bytes:
    chunks: list[bytes] = []
    await _feed(request, chunks.append, max_bytes, settings, grow)
    return b"".join(chunks)


async def _feed(
    request: Request,
    take: Callable[[bytes], None],
    max_bytes: int,
    settings: Settings,
    grow: Grow,
) -> None:
    """Hand over the body's chunks, no more of them than allowed and no slower.

    Each chunk earns the rest time, as in Apache's mod_reqtimeout; the larger the body that was
    announced, the less.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    received, held = 0, announced_bytes(request, max_bytes)
    try:
        async with asyncio.timeout(settings.body_timeout_s) as limit:
            more = True
            while more:  # not by `request.stream()`, which costs more than reading does
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                chunk, more = message.get("body", b""), message.get("more_body", False)
                received += len(chunk)
                if received > max_bytes:
                    raise RequestTooLarge(
                        f"expected at most {max_bytes:,} bytes a request, got more"
                    )
                if received > held:
                    held = min(2 * received, max_bytes)
                    grow(0, held)
                take(chunk)
                if more:
                    allowed_s = settings.body_timeout_s + received / _rate(held, settings)
                    limit.reschedule(started + allowed_s)
    except TimeoutError as error:
        raise RequestSlow(
            f"expected the body within {settings.body_timeout_s:g} s and then at "
            f"{_rate(held, settings):,} bytes a second, got {received:,} bytes in "
            f"{loop.time() - started:.1f} s"
        ) from error


def _rate(nbytes: int, settings: Settings) -> int:
    """Bytes a second that are slow enough to be patient with, of a body of so many."""
    return max(settings.body_min_rate, math.ceil(nbytes / settings.body_longest_s))


def clean_filename(filename: str | None) -> str | None:
    """The last part of a client's path, without anything that a terminal or a page could obey."""
    last = re.split(r"[/\\]", filename or "")[-1]
    clean = UNPRINTABLE.sub("_", last).strip()
    return clean[:MAX_FILENAME] or None
