"""Photos of far too many parts are refused before they are decoded, and others are not."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from service.avif import PARTS, TABLE_BYTES
from service.errors import PhotoTooLarge
from service.preprocess import Preprocessing, decode
from service.structure import BLOCKS, CHUNKS, MARKERS, SCANS
from tests.photo_factory import avif_of_places, avif_with_box

SPEC = Preprocessing(height=32, width=32)
PHOTO = (Path(__file__).parents[1] / "photos" / "metal.jpg").read_bytes()
TOO_MANY = 100_000


def saved(kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(PHOTO)).save(stream, kind, **options)
    return stream.getvalue()


def with_scans(count: int) -> bytes:
    """A progressive JPEG that says its last scan again and again."""
    data = saved("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def after_start(count: int, part: bytes) -> bytes:
    return PHOTO[:2] + part * count + PHOTO[2:]


def png_of(count: int) -> bytes:
    data = saved("PNG")
    return data[:33] + chunk(b"teXt", b"") * count + data[33:]


def gif_of(count: int) -> bytes:
    data = saved("GIF")
    picture = data.index(b",\0\0\0\0")
    return data[:picture] + b"!\xfe" + b"\1 " * count + b"\0" + data[picture:]


def avif_of_units(count: int) -> bytes:
    """With so many empty units of padding behind its only picture, which its place counts in."""
    data = saved("AVIF")
    units = b"\x7a\0" * count
    place = data.index(b"mdat") - 4
    size = int.from_bytes(data[place : place + 4]) - 8
    length = data.index(struct.pack(">I", size), data.index(b"iloc"))
    return (
        data[:length]
        + struct.pack(">I", size + len(units))
        + data[length + 4 : place]
        + struct.pack(">I", size + len(units) + 8)
        + data[place + 4 :]
        + units
    )


@pytest.mark.parametrize(
    "data",
    [
        with_scans(SCANS + 1),
        after_start(TOO_MANY, b"\xff\xe1\0\2"),
        after_start(TOO_MANY, b"\xff\xfe\0\2"),
        after_start(TOO_MANY, b"\xff"),
        after_start(TOO_MANY, b"\0"),
        after_start(TOO_MANY, b"\xff\1"),
        png_of(TOO_MANY),
        gif_of(TOO_MANY),
        avif_of_places(1),
        avif_of_places(PARTS, 1),
        avif_of_places(PARTS // 2, 2),
        avif_with_box(b"free", b"\0" * (TABLE_BYTES + 1)),
        avif_with_box(b"iref", b"\0\0\0\0" + b"\0\0\0\x08skip" * (PARTS + 1)),
        avif_of_units(TOO_MANY),
        avif_with_box(b"free", b"") + b"\0\0\0\x08free" * TOO_MANY,
    ],
    ids=[
        *("scans", "APP1", "comments", "padding", "junk", "TEM", "PNG", "GIF"),
        *("places", "items", "items of two", "tables", "references", "units", "boxes"),
    ],
)
def test_a_photo_of_too_many_parts_is_refused(data: bytes) -> None:
    with pytest.raises(PhotoTooLarge, match="at most"):
        decode(data, SPEC)


@pytest.mark.parametrize(
    "data",
    [
        with_scans(SCANS // 2),
        after_start(MARKERS // 2, b"\xff"),
        after_start(400, b"\xff\xe1\0\2"),
        png_of(CHUNKS // 2),
        gif_of(BLOCKS // 2),
        saved("JPEG", quality=30),
        avif_of_units(PARTS // 2),
        saved("AVIF", icc_profile=b"\0" * 1_000_000),
    ],
    ids=["scans", "padding", "APP1", "PNG", "GIF", "plain", "AVIF", "AVIF, large profile"],
)
def test_what_cameras_make_is_read(data: bytes) -> None:
    assert decode(data, SPEC).shape == (32, 32, 3)


def test_a_film_behind_a_photo_does_not_count() -> None:
    """As phones append it; its bytes may be anything."""
    assert (decode(PHOTO + b"\xff\xda" * TOO_MANY, SPEC) == decode(PHOTO, SPEC)).all()


@pytest.mark.parametrize("size", range(2, 40))
def test_what_is_cut_off_is_left_to_the_decoder(size: int) -> None:
    for data in (PHOTO, saved("PNG"), saved("GIF"), with_scans(SCANS + 1)):
        with pytest.raises(Exception, match=r"expected"):
            decode(data[:size], SPEC)
