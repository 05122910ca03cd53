"""A large photo made upright, flat and small a band at a time: its pixels are in memory but once.

Pillow resizes in one direction and then in the other, with whole bytes in between, so that a band
comes out of the first as it would of the whole photo, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

BAND_PIXELS = 500_000
BACKGROUND = (255, 255, 255)  # what shows through where a photo is transparent
TURNED_BY_90 = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height
UPRIGHT_BY = {  # what undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FROM_THE_END = (  # whose first column, and whose first row, is the last line of the file
    frozenset({2, 3, 6, 7}),
    frozenset({3, 4, 7, 8}),
)

Box = tuple[float, float, float, float]


def upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Width and height once it is turned."""
    width, height = image.size
    return (height, width) if orientation in TURNED_BY_90 else (width, height)


def upright_rgb(image: Image.Image, orientation: int) -> Image.Image:
    """A photo whose pixels are loaded as a person would see it, in its own size."""
    turn = UPRIGHT_BY.get(orientation)
    return _rgb(image if turn is None else image.transpose(turn))


def reduced(
    image: Image.Image,
    orientation: int,
    size: tuple[int, int],
    resample: Image.Resampling,
    box: Box,
) -> Image.Image:
    """What `upright_rgb` gives, resized, without ever being there as a whole.

    Args:
        image: with its pixels loaded.
        size: of the result.
        box: the part of the upright photo that is resized.
    """
    width, height = upright_size(image, orientation)
    if width * height <= BAND_PIXELS:
        return upright_rgb(image, orientation).resize(size, resample, box=box)
    left, top, right, bottom = box
    if _columns_first(width - size[0], height - size[1]):
        low = Image.new("RGB", (width, size[1]))
        for first, end in _bands(width, height):
            band = upright_rgb(image.crop(_stored(image, orientation, first, end, 0)), orientation)
            down = (0.0, top, float(end - first), bottom)
            low.paste(band.resize((end - first, size[1]), resample, box=down), (first, 0))
        return low.resize(size, resample, box=(left, 0.0, right, float(size[1])))
    narrow = Image.new("RGB", (size[0], height))
    for first, end in _bands(height, width):
        band = upright_rgb(image.crop(_stored(image, orientation, first, end, 1)), orientation)
        across = (left, 0.0, right, float(end - first))
        narrow.paste(band.resize((size[0], end - first), resample, box=across), (0, first))
    return narrow.resize(size, resample, box=(0.0, top, float(size[0]), bottom))


def _columns_first(fewer_columns: int, fewer_rows: int) -> bool:
    """The direction that Pillow 13 begins with."""
    return fewer_rows > max(0, 2 * fewer_columns)


def _bands(lines: int, length: int) -> Iterator[tuple[int, int]]:
    at_once = max(1, BAND_PIXELS // length)
    for first in range(0, lines, at_once):
        yield first, min(first + at_once, lines)


def _stored(
    image: Image.Image, orientation: int, first: int, end: int, axis: int
) -> tuple[int, int, int, int]:
    """Where the file has some of the upright photo's columns (axis 0) or rows (axis 1)."""
    if orientation in FROM_THE_END[axis]:
        lines = upright_size(image, orientation)[axis]
        first, end = lines - end, lines - first
    if (axis == 0) == (orientation in TURNED_BY_90):
        return (0, first, image.width, end)
    return (first, 0, end, image.height)


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode that a decoder gives, as RGB over a white background."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a channel, or more
        grey = (np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        flat = Image.new("RGB", layered.size, BACKGROUND)
        flat.paste(layered, mask=layered.getchannel("A"))
        return flat
    return image.convert("RGB")
