"""Nothing but pixels gets into the review store."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from service.errors import PhotoTooLarge
from service.preprocess import PhotoLimits, Preprocessing, decode
from service.review.cleaning import clean
from service.review.records import Rules
from tests.photo_factory import BLUE, GREEN, RED, WHITE, encode, quarters

SECRETS = (b"Secret Camera", b"52.5163", b"photographer", b"hidden", b"trailing")
GPS = 0x8825
RULES = Rules(limits=PhotoLimits(max_bytes=5_000_000, max_pixels=4_000_000))
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'><photographer>52.5163</photographer></x:xmpmeta>"


def exif(orientation: int = 1) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    found[0x010F] = "Secret Camera"
    found[0x013B] = "photographer"
    gps = found.get_ifd(GPS)
    gps[1], gps[2] = "N", (52.0, 30.0, 58.7)
    gps[3], gps[4] = "E", (13.0, 22.0, 39.0)
    gps[27] = b"ASCII\0\0\x0052.5163"
    found.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0hidden"
    return found


def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    segment = struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content
    return jpeg[:2] + segment + jpeg[2:]


def jpeg() -> bytes:
    thumbnail = encode(quarters(32, 24), "JPEG", comment=b"hidden")
    data = encode(
        quarters(), "JPEG", exif=exif(), icc_profile=profile(), comment=b"hidden", xmp=XMP
    )
    data = with_segment(data, 0xED, b"Photoshop 3.0\x008BIM photographer")
    data = with_segment(data, 0xEC, b"Ducky" + thumbnail)
    return data + b"trailing" + thumbnail


def png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "photographer")
    text.add_text("Comment", "hidden", zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return encode(quarters(), "PNG", exif=exif(), pnginfo=text, icc_profile=profile()) + b"trailing"


def webp() -> bytes:
    return encode(quarters(), "WEBP", lossless=True, exif=exif(), xmp=XMP) + b"trailing"


def avif() -> bytes:
    return encode(quarters(), "AVIF", exif=exif(), xmp=XMP)


def gif() -> bytes:
    return encode(quarters(), "GIF", comment=b"hidden") + b"trailing"


FORMATS: list[Callable[[], bytes]] = [jpeg, png, webp, avif, gif]


def segments(data: bytes) -> list[int]:
    """The markers of a JPEG's segments up to its picture."""
    found, place = [], 2
    while data[place + 1] != 0xDA:
        found.append(data[place + 1])
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return found


@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
def test_a_kept_photo_has_pixels_and_nothing_else(make: Callable[[], bytes]) -> None:
    data = make()
    assert any(secret in data for secret in SECRETS)  # else this would test nothing
    kept = clean(data, RULES).data
    # JFIF's header, tables, the frame: no APP1 to APP15, no comment, and nothing behind the end.
    assert set(segments(kept)) <= {0xE0, 0xDB, 0xC0, 0xC4}
    assert kept.index(b"\xff\xd9") == len(kept) - 2
    for text in (kept, *pieces(kept)):
        assert not any(secret in text for secret in (*SECRETS, b"Exif", b"adobe", b"ICC"))
    image = Image.open(io.BytesIO(kept))
    assert dict(image.getexif()) == {}
    assert image.getexif().get_ifd(GPS) == {}
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def pieces(data: bytes) -> list[bytes]:
    """What may be packed in it."""
    found = []
    for place in range(len(data) - 2):
        if data[place] == 0x78:
            try:
                found.append(zlib.decompressobj().decompress(data[place:]))
            except zlib.error:
                continue
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_copy_is_upright_as_the_model_saw_it(orientation: int) -> None:
    data = encode(quarters(96, 64), "JPEG", exif=exif(orientation), quality=95)
    spec = Preprocessing(height=64, width=64)
    seen, kept = decode(data, spec), decode(clean(data, RULES).data, spec)
    assert np.abs(seen.astype(int) - kept.astype(int)).mean() < 4
    corners = [tuple(kept[y, x]) for y in (8, 56) for x in (8, 56)]
    upright = [tuple(seen[y, x]) for y in (8, 56) for x in (8, 56)]
    for found, wanted in zip(corners, upright, strict=True):
        assert max(abs(int(a) - int(b)) for a, b in zip(found, wanted, strict=True)) < 16
    if orientation == 1:
        for found, wanted in zip(corners, (RED, GREEN, BLUE, WHITE), strict=True):
            assert max(abs(int(a) - b) for a, b in zip(found, wanted, strict=True)) < 24


@pytest.mark.parametrize(
    ("size", "kept"), [((3000, 1000), (500, 167)), ((400, 500), (400, 500)), ((1, 1200), (1, 500))]
)
def test_the_copy_is_bounded_and_keeps_its_shape(
    size: tuple[int, int], kept: tuple[int, int]
) -> None:
    found = clean(encode(Image.new("RGB", size), "PNG"), Rules(long_side_px=500))
    assert (found.width, found.height) == kept
    assert Image.open(io.BytesIO(found.data)).size == kept


def test_limits_hold_before_anything_is_decoded() -> None:
    with pytest.raises(PhotoTooLarge):
        clean(encode(Image.new("RGB", (3000, 2000)), "PNG"), RULES)


def test_the_same_photo_gives_the_same_bytes() -> None:
    assert clean(jpeg(), RULES) == clean(jpeg(), RULES)
