"""Bytes to pixels: every format, mode and turn gives the picture that a person would see."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.avif import AvifAnimated, AvifMalformed, check_boxes, coded_pixels
from service.errors import (
    PhotoBroken,
    PhotoEmpty,
    PhotoError,
    PhotoTooLarge,
    PhotoUnsupported,
)
from service.preprocess import FORMATS, PhotoLimits, Pixels, Preprocessing, decode
from service.structure import TooManyParts
from tests.photo_factory import (
    BLUE,
    BOMBS,
    GREEN,
    RED,
    WHITE,
    avif_that_says,
    encode,
    noise,
    png,
    png_16_bit,
    quarters,
)

SPEC = Preprocessing(height=32, width=48)
LOSSY = 12  # of 255
ENCODINGS = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"quality": 95},
    "BMP": {},
    "GIF": {},
    "AVIF": {"quality": 90},
}


# Reads a photo from stdin; prints how it was refused, and megabytes that this took.
COST_OF_A_BOMB = """
import resource, sys
from pathlib import Path
from service.preprocess import Preprocessing, decode
import PIL.AvifImagePlugin, PIL.WebPImagePlugin
def peak():
    if sys.platform == "linux":  # where getrusage begins with what the parent had
        told = Path("/proc/self/status").read_text().split("VmHWM:")[1]
        return int(told.split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
data, before = sys.stdin.buffer.read(), peak()
try:
    decode(data, Preprocessing(height=224, width=224))
except Exception as error:
    print(type(error).__name__, peak() - before)
"""


def corners(pixels: Pixels) -> list[tuple[int, ...]]:
    """Colours at the middle of each quarter, in reading order."""
    height, width = pixels.shape[:2]
    spots = [(y, x) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]
    return [tuple(int(v) for v in pixels[spot]) for spot in spots]


def assert_shows_quarters(pixels: Pixels, expected: tuple[tuple[int, int, int], ...]) -> None:
    np.testing.assert_allclose(corners(pixels), expected, atol=LOSSY)


@pytest.mark.parametrize("format", ENCODINGS)
def test_every_format_shows_the_same_picture(format: str) -> None:
    pixels = decode(encode(quarters(), format, **ENCODINGS[format]), SPEC)
    assert pixels.shape == (32, 48, 3)
    assert pixels.dtype == np.uint8
    assert_shows_quarters(pixels, (RED, GREEN, BLUE, WHITE))


def test_heic_is_decoded_where_its_library_is_installed() -> None:
    pytest.importorskip("pillow_heif", reason="the heic extra is not installed")
    assert "HEIF" in FORMATS
    pixels = decode(encode(quarters(), "HEIF", quality=95), SPEC)
    assert_shows_quarters(pixels, (RED, GREEN, BLUE, WHITE))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_undone(orientation: int, format: str) -> None:
    # What a camera held in that way stores of the scene, after the table of the EXIF standard.
    stored_by = {
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.ROTATE_90, Image.Transpose.FLIP_TOP_BOTTOM],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.ROTATE_90, Image.Transpose.FLIP_LEFT_RIGHT],
        8: [Image.Transpose.ROTATE_270],
    }
    stored = quarters()
    for step in stored_by.get(orientation, []):
        stored = stored.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, format, exif=exif, quality=95)
    assert_shows_quarters(decode(data, SPEC), (RED, GREEN, BLUE, WHITE))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_damaged_metadata_does_not_damage_the_photo(format: str) -> None:
    data = encode(quarters(), format, exif=b"Exif\0\0no TIFF header here", quality=95)
    assert_shows_quarters(decode(data, SPEC), (RED, GREEN, BLUE, WHITE))


def test_cmyk_becomes_rgb() -> None:
    data = encode(quarters().convert("CMYK"), "JPEG", quality=95)
    assert_shows_quarters(decode(data, SPEC), (RED, GREEN, BLUE, WHITE))


def test_grey_becomes_three_equal_channels() -> None:
    pixels = decode(encode(quarters().convert("L")), SPEC)
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_transparency_shows_white_in_every_mode() -> None:
    for mode in ("RGBA", "LA"):
        assert decode(encode(Image.new(mode, (40, 40))), SPEC).min() == 255
    palette = Image.new("P", (40, 40), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert decode(encode(palette, transparency=0), SPEC).min() == 255
    assert decode(encode(palette, "GIF", transparency=0), SPEC).min() == 255


def test_palette_without_transparency_keeps_its_colours() -> None:
    data = encode(quarters().convert("P", palette=Image.Palette.ADAPTIVE))
    assert_shows_quarters(decode(data, SPEC), (RED, GREEN, BLUE, WHITE))


def test_one_bit_is_black_and_white() -> None:
    pixels = decode(encode(Image.new("1", (40, 40), 1)), SPEC)
    assert pixels.min() == 255


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("value", [0, 0x4000, 0x8000, 0xFFFF])
def test_sixteen_bits_are_scaled_and_not_cut(channels: int, value: int) -> None:
    pixels = np.full((8, 8, channels), value, dtype=np.uint16)
    if channels in (2, 4):
        pixels[..., -1] = 0xFFFF
    found = decode(png_16_bit(pixels), SPEC)
    assert abs(int(found[0, 0, 0]) - value / 257) <= 1
    assert found.min() == found.max()


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, GREEN, BLUE)]
    for format in ("GIF", "WEBP", "PNG"):
        data = encode(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_allclose(decode(data, SPEC)[16, 24], RED, atol=LOSSY)


def test_draft_decoding_shows_what_full_decoding_shows() -> None:
    large = Image.open(io.BytesIO(noise(1, 1600, 1200)))
    jpeg = encode(large, "JPEG", quality=95)
    drafted = decode(jpeg, SPEC).astype(int)
    whole = decode(encode(Image.open(io.BytesIO(jpeg))), SPEC).astype(int)
    assert np.abs(drafted - whole).mean() < 1.5
    assert np.abs(drafted - whole).max() < 16


def test_draft_keeps_enough_pixels_for_a_turned_and_for_a_cropped_photo() -> None:
    stripes = Image.new("L", (1600, 400))
    stripes.paste(255, (0, 0, 1600, 200))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode(encode(stripes, "JPEG", exif=exif), Preprocessing(height=400, width=100))
    # Held sideways, the white upper half comes to lie on the right; a blurred edge would show.
    assert turned[200, 40, 0] < 10
    assert turned[200, 60, 0] > 245
    crop = Preprocessing(height=64, width=64, fit="crop", crop_fraction=0.5)
    assert decode(encode(stripes, "JPEG"), crop).shape == (64, 64, 3)


def test_crop_takes_the_centre_and_keeps_the_aspect() -> None:
    wide = Image.new("RGB", (300, 100), RED)
    wide.paste(GREEN, (100, 0, 200, 100))
    pixels = decode(encode(wide), Preprocessing(height=32, width=32, fit="crop"))
    assert_shows_quarters(pixels, (GREEN,) * 4)
    squashed = decode(encode(wide), Preprocessing(height=32, width=32))
    np.testing.assert_allclose(squashed[16, 2], RED, atol=LOSSY)


def test_no_bytes_are_an_error_of_their_own() -> None:
    with pytest.raises(PhotoEmpty, match="0 bytes"):
        decode(b"", SPEC)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_truncated_photos_are_refused(format: str, kept: float) -> None:
    data = encode(Image.open(io.BytesIO(noise(2, 200, 150))), format)
    with pytest.raises((PhotoBroken, PhotoUnsupported)):
        decode(data[: int(len(data) * kept)], SPEC)


@pytest.mark.parametrize(
    "data", [b"%PDF-1.7 and so on", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0" * 100, b"x"]
)
def test_what_is_no_photo_is_unsupported(data: bytes) -> None:
    with pytest.raises(PhotoUnsupported, match="JPEG, PNG"):
        decode(data, SPEC)


def test_heic_without_its_library_is_called_by_its_name() -> None:
    if "HEIF" in FORMATS:
        pytest.skip("it is installed")
    with pytest.raises(PhotoUnsupported, match="got HEIC, which is read where the extra `heic`"):
        decode(b"\0\0\0\x1cftypheic" + bytes(40), SPEC)


def test_formats_beyond_the_list_are_unsupported_though_pillow_knows_them() -> None:
    for format in ("TIFF", "PPM", "ICO", "TGA"):
        with pytest.raises(PhotoUnsupported):
            decode(encode(quarters(), format), SPEC)


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (8_000, 8_000), (2**31 - 1, 1)])
def test_bombs_are_refused_from_the_header_before_anything_is_allocated(
    width: int, height: int
) -> None:
    data = png(width, height)
    tracemalloc.start()
    try:
        with pytest.raises(PhotoTooLarge, match="50,000,000 pixels"):
            decode(data, SPEC)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_bombs_in_every_format_cost_next_to_nothing(name: str) -> None:
    """In a process of its own, so that what the decoders allocate is seen as well."""
    run = subprocess.run(
        [sys.executable, "-c", COST_OF_A_BOMB], input=BOMBS[name](), capture_output=True, check=True
    )
    refused, megabytes = run.stdout.decode().split()
    assert refused in {"PhotoTooLarge", "PhotoBroken", "PhotoUnsupported"}
    assert int(megabytes) < 20


def test_an_avif_is_as_large_as_what_it_holds() -> None:
    """Its own words, 64 x 64, are what is shown; what is decoded is 8,000 x 7,000."""
    with pytest.raises(PhotoTooLarge, match="holds 56,000,000"):
        decode(avif_that_says((64, 64), holding=(8000, 7000)), SPEC)
    within = avif_that_says((64, 64), holding=(200, 150))
    assert decode(within, SPEC, PhotoLimits(max_pixels=30_000)).shape == (32, 48, 3)
    with pytest.raises(PhotoTooLarge):
        decode(within, SPEC, PhotoLimits(max_pixels=29_999))


@pytest.mark.parametrize("size", [(1, 1), (17, 33), (640, 480)])
@pytest.mark.parametrize("options", [{}, {"subsampling": "4:4:4"}, {"speed": 10, "tile_rows": 1}])
def test_the_pictures_of_an_avif_are_sized_without_decoding(
    size: tuple[int, int], options: dict[str, Any]
) -> None:
    pixels = size[0] * size[1]
    for mode, pictures in (("L", 1), ("RGB", 1), ("RGBA", 2)):
        image = Image.new("RGBA", size, (9, 9, 9, 9)).convert(mode)
        assert coded_pixels(encode(image, "AVIF", **options)) == pictures * [pixels]


def test_an_animated_avif_is_refused() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, GREEN)]
    data = encode(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(PhotoUnsupported, match="animation"):
        decode(data, SPEC)


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8))
def test_a_damaged_avif_is_sized_or_refused(edits: list[tuple[float, int]]) -> None:
    data = bytearray(encode(quarters(), "AVIF"))
    for place, byte in edits:
        data[int(place * len(data))] = byte
    with contextlib.suppress(AvifMalformed, AvifAnimated, TooManyParts):
        check_boxes(bytes(data))
        assert min(coded_pixels(bytes(data))) > 0


def test_limits_are_inclusive() -> None:
    data = encode(quarters())
    decode(data, SPEC, PhotoLimits(max_bytes=len(data), max_pixels=96 * 64))
    with pytest.raises(PhotoTooLarge, match="bytes a photo"):
        decode(data, SPEC, PhotoLimits(max_bytes=len(data) - 1))
    with pytest.raises(PhotoTooLarge, match="96 x 64 = 6,144"):
        decode(data, SPEC, PhotoLimits(max_pixels=96 * 64 - 1))


@given(st.binary(max_size=400))
def test_any_bytes_give_pixels_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(PhotoError):
        assert decode(data, SPEC).shape == (32, 48, 3)


@given(
    format=st.sampled_from(sorted(ENCODINGS)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
)
def test_damaged_photos_give_pixels_or_an_error_of_ours(
    format: str, edits: list[tuple[float, int]]
) -> None:
    data = bytearray(encode(quarters(), format))
    for place, byte in edits:
        data[int(place * len(data))] = byte
    with contextlib.suppress(PhotoError):
        assert decode(bytes(data), SPEC).shape == (32, 48, 3)


@given(
    width=st.integers(1, 120),
    height=st.integers(1, 120),
    fit=st.sampled_from(["squash", "crop"]),
    fraction=st.floats(0.1, 1.0),
    format=st.sampled_from(["JPEG", "PNG"]),
)
def test_a_photo_of_one_colour_stays_so_at_any_size(
    width: int, height: int, fit: str, fraction: float, format: str
) -> None:
    spec = Preprocessing.model_validate(
        {"height": 24, "width": 40, "fit": fit, "crop_fraction": fraction}
    )
    pixels = decode(encode(Image.new("RGB", (width, height), (120, 130, 140)), format), spec)
    assert pixels.shape == (24, 40, 3)
    np.testing.assert_allclose(pixels, np.broadcast_to((120, 130, 140), pixels.shape), atol=3)
