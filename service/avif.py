"""How large the pictures in an AVIF file really are, and of how many parts, without decoding them.

The size in the file's boxes is the one to show. The AV1 pictures inside may be of any other, and
are decoded whole before they are scaled to it: two kilobytes that say 64 x 64 can hold a picture of
16,384 x 16,384. What bounds a picture is in its sequence header (AV1 specification, 5.5.1).

An item may also say that it lies in 65,535 places without a byte for any of them, and a decoder
makes room for each as it opens the file: eight kilobytes of such items are a gigabyte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from service.structure import TooManyParts

SEQUENCE_HEADER = 1
PARTS = 10_000  # of each kind: boxes in a box, places of items, units of pictures
# Of all that says which items there are, without their own bytes (`idat`) and properties such as
# profiles (`ipco`). A picture of 100 tiles needs 5,000.
TABLE_BYTES = 64_000
BRANDS = frozenset({b"avif", b"avis", b"mif1", b"msf1"})


class AvifMalformed(ValueError):
    """The file's boxes or its pictures' headers cannot be followed."""


class AvifAnimated(ValueError):
    """The file has tracks, of which nothing here says how large they are."""


def check_boxes(data: bytes) -> None:
    """Count what a file is made of, if it is one that an AVIF decoder would look into.

    Raises:
        TooManyParts: for more than any camera makes.
        AvifMalformed, AvifAnimated: where that cannot be told.
    """
    if data[4:8] != b"ftyp" or data[8:12] not in BRANDS:
        return
    try:
        tables = 0
        for kind, start, end in _inner(data):
            if kind == b"ipco":
                list(_boxes(data, start, end))  # which counts them
            elif kind != b"idat":
                tables += end - start
            if kind == b"iloc":
                _locations(_Fields(data, start, end))
    except (struct.error, IndexError) as error:
        raise AvifMalformed("the file ends within its headers") from error
    if tables > TABLE_BYTES:
        raise TooManyParts(
            f"expected an AVIF of at most {TABLE_BYTES:,} bytes that say what it has"
        )


def coded_pixels(data: bytes) -> list[int]:
    """Pixels of each AV1 picture of a still AVIF: colour, transparency, tiles, thumbnails.

    Args:
        data: for which `check_boxes` was asked.

    Raises:
        TooManyParts: for more than any camera makes.
        AvifMalformed, AvifAnimated: where that cannot be told.
    """
    try:
        return [_pixels_of(picture) for picture in _pictures(data)]
    except (struct.error, IndexError) as error:
        raise AvifMalformed("the file ends within its headers") from error


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, and first and last place of the content, of each box (ISO/IEC 14496-12, 4.2)."""
    boxes = 0
    while start < end:
        boxes += 1
        if boxes > PARTS:
            raise TooManyParts(f"expected an AVIF of at most {PARTS:,} boxes in another")
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        elif size == 0:  # to the end
            size = end - start
        if start + size > end or content > start + size:
            raise AvifMalformed(f"the box {kind!r} is longer than what holds it")
        yield kind, content, start + size
        start += size


def _inner(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of those that describe the file's items and their properties."""
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"moov":
            raise AvifAnimated("it is an animation")
        for inner in _boxes(data, start + 4, end) if kind == b"meta" else ():
            if inner[0] == b"iprp":
                yield from _boxes(data, *inner[1:])
            else:
                yield inner


def _pictures(data: bytes) -> Iterator[bytes]:
    """The bytes of each AV1 item."""
    pictures: set[int] = set()
    places: dict[int, list[tuple[int, int, int]]] = {}
    idat = (0, 0)
    for kind, first, last in _inner(data):
        if kind == b"iinf":
            pictures |= _av1_items(data, first, last)
        elif kind == b"iloc":
            places |= _locations(_Fields(data, first, last))
        elif kind == b"idat":
            idat = (first, last)
    if not pictures:
        raise AvifMalformed("it has no AV1 picture")
    left = len(data)
    for item in pictures:
        parts = []
        for method, offset, length in places.get(item, []):
            if method > 1:
                raise AvifMalformed("a picture is made of other items' bytes")
            parts.append(_part(data, idat if method else (0, len(data)), offset, length))
            left -= len(parts[-1])
            if left < 0:
                raise AvifMalformed("its pictures have the same bytes")
        yield b"".join(parts)


def _part(data: bytes, within: tuple[int, int], offset: int, length: int) -> bytes:
    start = within[0] + offset
    end = start + length if length else within[1]
    if end > within[1]:
        raise AvifMalformed("a picture lies beyond the end of the file")
    return data[start:end]


def _av1_items(data: bytes, start: int, end: int) -> set[int]:
    """Ids of the items that are AV1 pictures (ItemInfoBox)."""
    version = data[start]
    found = set()
    for kind, first, _ in _boxes(data, start + (6 if version == 0 else 8), end):
        if kind != b"infe":
            continue
        if data[first] == 2:
            item, _, what = struct.unpack_from(">HH4s", data, first + 4)
        else:
            item, _, what = struct.unpack_from(">IH4s", data, first + 4)
        if what == b"av01":
            found.add(item)
    return found


@dataclass
class _Fields:
    """Unsigned integers, one after the other."""

    data: bytes
    place: int
    end: int

    def take(self, nbytes: int) -> int:
        if self.place + nbytes > self.end:
            raise AvifMalformed("a box ends within its content")
        self.place += nbytes
        return int.from_bytes(self.data[self.place - nbytes : self.place])


def _locations(fields: _Fields) -> dict[int, list[tuple[int, int, int]]]:
    """For each item its extents: method, offset, length (ItemLocationBox)."""
    version = fields.take(4) >> 24
    sizes = fields.take(2)
    offset_size, length_size = sizes >> 12, sizes >> 8 & 15
    base_size, index_size = sizes >> 4 & 15, sizes & 15 if version else 0
    wide = 4 if version == 2 else 2
    left = PARTS
    found: dict[int, list[tuple[int, int, int]]] = {}
    for _ in range(fields.take(wide)):
        item = fields.take(wide)
        method = fields.take(2) & 15 if version else 0
        fields.take(2)  # where the data are, if not in this file
        base = fields.take(base_size)
        extents = []
        number = fields.take(2)
        left -= 1 + number
        if left < 0:
            raise TooManyParts(f"expected an AVIF of at most {PARTS:,} places of items")
        for _ in range(number):
            fields.take(index_size)
            offset, length = fields.take(offset_size), fields.take(length_size)
            extents.append((method, base + offset, length))
        found[item] = extents
    return found


def _pixels_of(picture: bytes) -> int:
    """The largest size that any sequence header of a picture allows."""
    sizes = [
        _frame_pixels(_Bits(payload))
        for kind, payload in _units(picture)
        if kind == SEQUENCE_HEADER
    ]
    if not sizes:
        raise AvifMalformed("a picture has no sequence header")
    return max(sizes)


def _units(picture: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each open bitstream unit (AV1, 5.3)."""
    place = units = 0
    while place < len(picture):
        units += 1
        if units > PARTS:
            raise TooManyParts(f"expected an AVIF of at most {PARTS:,} units in a picture")
        header = picture[place]
        place += 2 if header & 4 else 1
        size = len(picture) - place
        if header & 2:
            size = 0
            for i in range(8):  # leb128
                byte = picture[place]
                place += 1
                size |= (byte & 0x7F) << (7 * i)
                if not byte & 0x80:
                    break
        if place + size > len(picture):
            raise AvifMalformed("a picture ends within a unit")
        yield header >> 3 & 15, picture[place : place + size]
        place += size


class _Bits:
    """Bits of a payload, the highest of each byte first."""

    def __init__(self, payload: bytes) -> None:
        head = payload[:512]  # a sequence header is shorter, whatever it says
        self._bits = int.from_bytes(head)
        self._left = 8 * len(head)

    def take(self, count: int) -> int:
        if count > self._left:
            raise AvifMalformed("a sequence header ends early")
        self._left -= count
        return self._bits >> self._left & ((1 << count) - 1)

    def skip_uvlc(self) -> None:
        zeros = 0
        while not self.take(1):
            zeros += 1
        self.take(zeros if zeros < 32 else 0)


def _frame_pixels(bits: _Bits) -> int:
    """Of the largest frame that a sequence may have (AV1, 5.5.1)."""
    bits.take(4)  # profile, still
    if bits.take(1):  # a reduced header, as still pictures have
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(width_bits) + 1) * (bits.take(height_bits) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):
            bits.skip_uvlc()
        if bits.take(1):  # decoder model
            delay_bits = bits.take(5) + 1
            bits.take(42)
    display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if display_delay and bits.take(1):
            bits.take(4)
