"""What the headers of a request tell of its body, before any of it is read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from starlette.requests import Request

from service.errors import PhotoTooLarge, SuperbinError
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


class RequestTooLarge(SuperbinError):
    """The whole body is over its limit."""

    reason = "request_too_large"


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
            the number shows as it comes.
        nbytes: of the body, at most; where they tell no length what it gets places for at first.
        timeout_s: from the end of the body to the answer.
    """

    photos: int | None
    nbytes: int
    timeout_s: float


def announce(request: Request, settings: Settings) -> Announced:
    """Read the headers alone.

    Raises:
        RequestTooLarge, RequestUnsupported, PhotoTooLarge, TimeoutMalformed: with what was expected
            and what came.
    """
    check_coding(request)
    timeout_s = _timeout(request, settings)
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == MULTIPART:
        return Announced(None, announced_bytes(request, settings.max_request_bytes), timeout_s)
    if media_type.startswith("image/"):
        try:
            return Announced(1, announced_bytes(request, settings.max_raw_bytes), timeout_s)
        except RequestTooLarge as error:
            raise as_photo(error) from error
    came = f"the type {content_type[:80]!r}" if content_type else "no Content-Type"
    raise RequestUnsupported(f"{EXPECTED}, got {came}")


def announce_body(request: Request, settings: Settings) -> Announced:
    """Read the headers of a body that is neither a form nor a photo.

    Raises:
        RequestTooLarge, RequestUnsupported, TimeoutMalformed: with what was expected and what came.
    """
    check_coding(request)
    nbytes = announced_bytes(request, settings.max_request_bytes)
    return Announced(1, nbytes, _timeout(request, settings))


def check_coding(request: Request) -> None:
    # Several lines are one list (RFC 9110, section 5.3).
    coding = ", ".join(request.headers.getlist("content-encoding")).strip()
    if any(one.strip().lower() not in ("", "identity") for one in coding.split(",")):
        raise RequestUnsupported(f"expected a body without Content-Encoding, got {coding[:40]!r}")


def announced_bytes(request: Request, max_bytes: int) -> int:
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


def as_photo(error: RequestTooLarge) -> PhotoTooLarge:
    """Where the body is the photo."""
    return PhotoTooLarge(str(error).replace("a request", "a photo"))
