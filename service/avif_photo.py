"""Whether an AVIF may be decoded, in words for whoever sent it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.avif import AvifAnimated, AvifMalformed, check_boxes, coded_pixels
from service.errors import PhotoBroken, PhotoTooLarge, PhotoUnsupported
from service.structure import TooManyParts

AVIF_PICTURES = 2  # colour and transparency


def check_avif_boxes(data: bytes) -> None:
    """Look at what a file says before a decoder does, if it is one for AVIF's.

    Raises:
        PhotoTooLarge, PhotoBroken, PhotoUnsupported: with what was expected and what came.
    """
    with _told(data):
        check_boxes(data)


def check_avif_pixels(data: bytes, max_pixels: int) -> None:
    """Look at its pictures: the size in its header is not what is decoded.

    Raises:
        PhotoTooLarge, PhotoBroken, PhotoUnsupported: with what was expected and what came.
    """
    with _told(data):
        pixels = coded_pixels(data)
    if max(pixels) > max_pixels or sum(pixels) > AVIF_PICTURES * max_pixels:
        raise PhotoTooLarge(
            f"expected at most {max_pixels:,} pixels a photo, and as many for its "
            f"transparency, got an AVIF that holds {sum(pixels):,}"
        )


@contextmanager
def _told(data: bytes) -> Iterator[None]:
    try:
        yield
    except AvifAnimated as error:
        raise PhotoUnsupported(
            f"expected an AVIF still, got an animation of {len(data):,} bytes"
        ) from error
    except AvifMalformed as error:
        raise PhotoBroken(
            f"expected a whole AVIF photo, got {len(data):,} bytes: {error}"
        ) from error
    except TooManyParts as error:
        raise PhotoTooLarge(f"{error}, in {len(data):,} bytes") from error
