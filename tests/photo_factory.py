"""Photos for tests, drawn in code: what they show is known, so that answers can be checked."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
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


def patched(data: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    """`data` with some bytes replaced, at `offset` from the first `mark`."""
    place = data.index(mark) + offset
    return data[:place] + new + data[place + len(new) :]


def avif_that_says(size: tuple[int, int], *, holding: tuple[int, int]) -> bytes:
    """An AVIF with another size in its boxes (`ispe`) than that of its picture."""
    data = encode(Image.new("RGB", holding, RED), "AVIF", speed=10)
    return patched(data, b"ispe", 8, struct.pack(">II", *size))


def avif_with_box(name: bytes, content: bytes) -> bytes:
    """An AVIF with another box of a name in its `meta`, in place of the first such, or behind."""
    data = encode(Image.new("RGB", (64, 64), RED), "AVIF", speed=10)
    meta = data.index(b"meta") - 4
    size = int.from_bytes(data[meta : meta + 4])
    place = data.find(name) - 4 if name in data else meta + size
    old = int.from_bytes(data[place : place + 4]) if name in data else 0
    box = struct.pack(">I4s", 8 + len(content), name) + content
    whole = struct.pack(">I", size + len(box) - old)
    return data[:meta] + whole + data[meta + 4 : place] + box + data[place + old :]


def avif_of_places(items: int, each: int = 65_535) -> bytes:
    """An AVIF whose items say that they lie in so many places, without a byte for any."""
    places = b"".join(struct.pack(">HHHH", 1 + item, 0, 0, each) for item in range(items))
    return avif_with_box(b"iloc", b"\1\0\0\0\0\0" + struct.pack(">H", items) + places)


def _gif(screen: int, frame: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HH", screen, screen)
        + b"\x80\0\0"
        + b"\0" * 6
        + b","
        + struct.pack("<HHHH", 0, 0, frame, frame)
        + b"\0\x02\x02D\x01\0;"
    )


def _webp(canvas: int | None, width: int | None = None, *, lossless: bool = False) -> bytes:
    """A WebP with another size in its picture, and a canvas around it (VP8X)."""
    data = encode(Image.new("RGB", (64, 64), RED), "WEBP", lossless=lossless)
    if width and lossless:
        data = patched(data, b"VP8L", 9, struct.pack("<I", (width - 1) | (width - 1) << 14))
    elif width:
        data = patched(data, b"VP8 ", 14, struct.pack("<HH", width, width))
    if canvas is None:
        return data
    side = struct.pack("<I", canvas - 1)[:3]
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + side + side + data[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _claiming(format: str, mark: bytes, offset: int, size: bytes) -> bytes:
    return patched(encode(Image.new("RGB", (64, 64), RED), format), mark, offset, size)


# Small files that would fill the memory of a decoder that believes them, or does not look.
BOMBS: dict[str, Callable[[], bytes]] = {
    "png": lambda: png(50_000, 50_000),
    "gif screen": lambda: _gif(65_535, 65_535),
    "gif frame": lambda: _gif(1, 60_000),
    "webp lossy": lambda: _webp(None, 16_383),
    "webp lossless": lambda: _webp(None, 16_384, lossless=True),
    "webp canvas": lambda: _webp(60_000),
    "webp small canvas": lambda: _webp(10, 16_383),
    "avif boxes": lambda: avif_that_says((20_000, 20_000), holding=(64, 64)),
    "avif picture": lambda: avif_that_says((64, 64), holding=(8000, 7000)),
    "avif places": lambda: avif_of_places(1000),
    "bmp": lambda: _claiming("BMP", b"BM", 18, struct.pack("<ii", 60_000, 60_000)),
    "jpeg": lambda: _claiming("JPEG", b"\xff\xc0", 5, struct.pack(">HH", 65_000, 65_000)),
}
