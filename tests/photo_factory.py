"""Photos for tests, drawn in code: what they show is known, so that answers can be checked."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

RED, GREEN, BLUE, WHITE = (220, 30, 30), (30, 200, 40), (30, 40, 210), (250, 250, 250)


def quarters(width: int = 96, height: int = 64) -> Image.Image:
    """Red and green above, blue and white below: any turn or flip shows."""
    image = Image.new("RGB", (width, height))
    half_w, half_h = width // 2, height // 2
    corners = ((0, 0), (half_w, 0), (0, half_h), (half_w, half_h))
    for corner, colour in zip(corners, (RED, GREEN, BLUE, WHITE), strict=True):
        image.paste(colour, (*corner, corner[0] + half_w, corner[1] + half_h))
    return image


def encode(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """An image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(seed: int, width: int = 80, height: int = 60) -> bytes:
    """A JPEG of coloured blotches, another for each seed."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return encode(image, "JPEG", quality=90)


def png(
    width: int, height: int, *, depth: int = 8, colour_type: int = 2, rows: bytes = b""
) -> bytes:
    """A PNG with any header and any pixel data, sound or not."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def png_16_bit(pixels: npt.NDArray[np.uint16]) -> bytes:
    """A PNG of 16 bits a channel from [H, W, C], C = 1 (grey), 2 (grey, alpha), 3 or 4."""
    height, width, channels = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return png(width, height, depth=16, colour_type=colour_type, rows=rows)
