"""A copy of a photo that says nothing but its pixels.

The pixels are decoded, turned upright, made smaller and encoded anew into a JPEG of our own: EXIF
with its places and times, XMP, comments, thumbnails, colour profiles, a PNG's text and whatever
hangs on behind the picture have no way into it.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.preprocess import upright
from service.review.records import Rules

THUMBNAIL_QUALITY = 80


@dataclass(frozen=True)
class CleanPhoto:
    """A JPEG without metadata, and the SHA-256 of its bytes."""

    data: bytes
    sha256: str
    width: int
    height: int


def thumbnail(data: bytes, side_px: int) -> bytes:
    """A kept JPEG made smaller, so that it fits a square of `side_px`."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft("RGB", (side_px, side_px))
        image.thumbnail((side_px, side_px))
        file = io.BytesIO()
        image.save(file, "JPEG", quality=THUMBNAIL_QUALITY)
    return file.getvalue()


def clean(data: bytes, rules: Rules) -> CleanPhoto:
    """Make the copy that is kept.

    Args:
        data: an encoded photo in any format that is served.

    Raises:
        PhotoError: as `service.preprocess.decode`.
    """
    image = upright(data, rules.long_side_px, rules.limits)
    bare = Image.fromarray(np.asarray(image))  # pixels alone: what hung on the image stays behind
    file = io.BytesIO()
    bare.save(file, "JPEG", quality=rules.jpeg_quality)
    encoded = file.getvalue()
    return CleanPhoto(encoded, hashlib.sha256(encoded).hexdigest(), *bare.size)
