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

from service.errors import PhotoTooLarge, SuperbinError
from service.multipart import MultipartBroken, Part, Parts, TooManyParts
from service.settings import Settings
from service.validation import read_size

FIELD = "file"
MULTIPART = "multipart/form-data"
JSON = "application/json"
TIMEOUT = "X-Request-Timeout"
SHORTEST_TIMEOUT_S = 0.001
EXPECTED = (
    f"expected photos as {MULTIPART} in the field {FIELD!r}, repeated for several, "
    "or one photo as a raw body of type image/*"
)
FIRST_BYTES = 1_000_000  # that a body of unknown length gets places for; twice what came after that
MAX_TEXT_FIELDS = 8  # none is wanted; a few are parsed to name them in the refusal
MAX_FILENAME = 128
Grow = Callable[[int], None]
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
        photos: 1 for a raw body, or where more is known once it is read; None for a form, of which
            the number is guessed from its bytes.
        nbytes: of the body, at most; where they tell no length what it gets places for at first.
        timeout_s: from the end of the body to the answer.
    """

    photos: int | None
    nbytes: int
    timeout_s: float


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
    return Announced(1, nbytes, _timeout(request, settings))


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
    _check_coding(request)
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != JSON:
        raise RequestUnsupported(f"expected a body of type {JSON}, got {content_type[:80]!r}")
    _announced_bytes(request, max_bytes)
    return await _body(request, max_bytes, settings, lambda nbytes: None)


def _check_coding(request: Request) -> None:
    # Several lines are one list (RFC 9110, section 5.3).
    coding = ", ".join(request.headers.getlist("content-encoding")).strip()
    if any(one.strip().lower() not in ("", "identity") for one in coding.split(",")):
        raise RequestUnsupported(f"expected a body without Content-Encoding, got {coding[:40]!r}")


def _announced_bytes(request: Request, max_bytes: int) -> int:
    declared = read_size(request.headers.get("content-length", ""))
    if declared is None:  # it comes in chunks, which are counted
        return min(FIRST_BYTES, max_bytes)
    if declared > max_bytes:
        raise RequestTooLarge(f"expected at most {max_bytes:,} bytes a request, got {declared:,}")
    return declared


def _timeout(request: Request, settings: Settings) -> float:
    given = request.headers.get(TIMEOUT)
    if given is None:
        return settings.timeout_s
    try:
        timeout_s = float(given)
    except ValueError:
        timeout_s = 0.0
    if not SHORTEST_TIMEOUT_S <= timeout_s < math.inf:
        raise TimeoutMalformed(
            f"expected {TIMEOUT} in seconds, at least {SHORTEST_TIMEOUT_S}, got {given[:40]!r}"
        )
    return min(timeout_s, settings.timeout_s)


async def receive(
    request: Request, announced: Announced, settings: Settings, grow: Grow
) -> list[Upload]:
    """The photos of a request, in order.

    Args:
        grow: finds places for so many bytes in all, before they come; it may raise.

    Raises:
        RequestMalformed, RequestTooLarge, RequestSlow, TooManyPhotos, PhotoTooLarge: with what was
            expected and what came.
    """
    if announced.photos is None:
        return _photos(await _form(request, settings, grow))
    try:
        data = await _body(request, settings.max_raw_bytes, settings, grow)
    except RequestTooLarge as error:
        raise _as_photo(error) from error
    return [Upload(None, len(data), data)]


async def _form(request: Request, settings: Settings, grow: Grow) -> list[Part]:
    try:
        parts = Parts(
            request.headers["content-type"],
            max_files=settings.max_photos,
            max_fields=MAX_TEXT_FIELDS,
            max_size=settings.max_photo_bytes,
        )
        await _feed(request, parts.write, settings.max_request_bytes, settings, grow)
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


def _as_photo(error: RequestTooLarge) -> PhotoTooLarge:
    """Where the body is the photo."""
    return PhotoTooLarge(str(error).replace("a request", "a photo"))


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
    received, held = 0, _announced_bytes(request, max_bytes)
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
                    grow(held)
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
