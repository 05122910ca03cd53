"""Bytes of a photo to uint8 pixels: the one implementation, used by training and by serving.

Normalisation is not here: it is part of the ONNX graph. Everything that decides which pixels the
graph sees is, so that a figure measured in training is a figure of the service.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from service.avif_photo import check_avif_boxes, check_avif_pixels
from service.bands import TURNED_BY_90, reduced, upright_rgb, upright_size
from service.decoding import MEMORY, bytes_between_scans, bytes_to_decode
from service.errors import PhotoBroken, PhotoEmpty, PhotoError, PhotoTooLarge, PhotoUnsupported
from service.structure import TooManyParts, check_structure

Pixels = npt.NDArray[np.uint8]
T = TypeVar("T")

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"]
try:  # HEIC is an optional extra: its decoder bundles libraries under other licences.
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()
    FORMATS.append("HEIF")

# Pillow warns of what the limits refuse anyway, and of stray metadata, which is harmless.
warnings.filterwarnings("ignore", module=r"PIL\.")

DECODED_IN_ONE_GO = frozenset({"WEBP", "AVIF"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"mif1", b"msf1"})
EXIF_ORIENTATION = 0x0112
UPRIGHT = 1
LONGEST_SIDE = 500_000


class Preprocessing(BaseModel):
    """How a photo becomes the graph's input; stored in a bundle's manifest.

    `fit` says what happens to a photo of another shape: `squash` keeps all of it and changes its
    aspect, `crop` keeps its aspect and takes the centre, `crop_fraction` of the shorter side.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int = Field(ge=8, le=4096)
    width: int = Field(ge=8, le=4096)
    fit: Literal["squash", "crop"] = "squash"
    crop_fraction: float = Field(default=1.0, gt=0.0, le=1.0)
    resample: Literal["bilinear", "bicubic"] = "bilinear"


class PhotoLimits(BaseModel):
    """What one photo may cost before it is refused.

    `max_decode_bytes` refuses none: it is what those that are decoded at once may take together,
    in one process (`service.decoding`); None for no limit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_bytes: int = Field(default=20_000_000, gt=0)
    max_pixels: int = Field(default=50_000_000, gt=0)
    max_decode_bytes: int | None = Field(default=None, gt=0)


def decode(data: bytes, spec: Preprocessing, limits: PhotoLimits | None = None) -> Pixels:
    """Decode one photo to what the model sees.

    Args:
        data: an encoded photo in one of `FORMATS`; of an animation the first frame counts, but an
            animated AVIF is refused.
        spec: size and shape of the result.
        limits: bytes and pixels allowed; the pixels are read from the header, before decoding.

    Returns:
        uint8 array of shape (spec.height, spec.width, 3), RGB, upright by its EXIF orientation.

    Raises:
        PhotoEmpty, PhotoTooLarge, PhotoUnsupported, PhotoBroken: with what was expected and
            what came.
    """
    return _decoded(
        data, limits, lambda image: _draft(image, spec), lambda image: _pixels(image, spec)
    )


def upright(data: bytes, long_side_px: int, limits: PhotoLimits | None = None) -> Image.Image:
    """Decode one photo for people: RGB, upright by its EXIF orientation, in its own shape.

    Args:
        data: as `decode`.
        long_side_px: of the result at most; smaller photos keep their size.

    Raises:
        PhotoEmpty, PhotoTooLarge, PhotoUnsupported, PhotoBroken: as `decode`.
    """
    most = (long_side_px, long_side_px)
    return _decoded(
        data,
        limits,
        lambda image: image.draft(None, most),
        lambda image: _shrunk(image, long_side_px),
    )


def _decoded(
    data: bytes,
    limits: PhotoLimits | None,
    draft: Callable[[Image.Image], object],
    use: Callable[[Image.Image], T],
) -> T:
    limits = limits or PhotoLimits()
    if not data:
        raise PhotoEmpty("expected an encoded photo, got 0 bytes")
    if len(data) > limits.max_bytes:
        raise PhotoTooLarge(
            f"expected at most {limits.max_bytes:,} bytes a photo, got {len(data):,}"
        )
    image = _open(data, limits)
    kept = bytes_between_scans(image, data)
    about = f"expected a whole {image.format} photo, got {len(data):,} bytes"
    with _sound(about):
        if image.format == "JPEG":
            draft(image)
        needed = bytes_to_decode(image, data) + kept
    with MEMORY.taken(needed, limits.max_decode_bytes), _sound(about):
        found = use(image)
        del image  # and its pixels, before another takes their place
    return found


@contextmanager
def _sound(about: str) -> Iterator[None]:
    """Tell in our words what decoders raise."""
    try:
        yield
    except (PhotoTooLarge, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise PhotoTooLarge(str(error)) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        raise PhotoBroken(
            f"{about} that do not decode ({type(error).__name__}: {error})"
        ) from error


def _open(data: bytes, limits: PhotoLimits) -> Image.Image:
    """Read the header alone and check it."""
    try:
        check_structure(data)
        check_avif_boxes(data)
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise PhotoTooLarge(
            f"expected at most {limits.max_pixels:,} pixels a photo, got far more ({error})"
        ) from error
    except TooManyParts as error:
        raise PhotoTooLarge(f"{error}, in {len(data):,} bytes") from error
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS and "HEIF" not in FORMATS:
            raise PhotoUnsupported(
                f"expected one of {', '.join(FORMATS)}, got HEIC, which is read where the "
                "extra `heic` is installed"
            ) from error
        raise PhotoUnsupported(
            f"expected one of {', '.join(FORMATS)}, got {len(data):,} bytes that begin "
            f"{data[:8]!r}, which is none of them, or is cut off in its header"
        ) from error
    except Exception as error:  # a header that begins well and goes wrong
        raise PhotoBroken(
            f"expected a photo with a sound header, got {len(data):,} bytes that do not open "
            f"({type(error).__name__}: {error})"
        ) from error
    pixels = image.width * image.height
    if pixels > limits.max_pixels:
        raise PhotoTooLarge(
            f"expected at most {limits.max_pixels:,} pixels a photo, got {image.width} x "
            f"{image.height} = {pixels:,}"
        )
    if max(image.size) > LONGEST_SIDE:  # resizing it would need more than its pixels do
        raise PhotoTooLarge(
            f"expected at most {LONGEST_SIDE:,} pixels a side, got {image.width} x {image.height}"
        )
    if image.format == "AVIF":
        check_avif_pixels(data, limits.max_pixels)
    return image


def _pixels(image: Image.Image, spec: Preprocessing) -> Pixels:
    """Decode, turn upright, flatten to RGB and resize."""
    _load(image)
    turned = _orientation(image)
    box = _box(upright_size(image, turned), spec)
    resample = Image.Resampling[spec.resample.upper()]
    resized = reduced(image, turned, (spec.width, spec.height), resample, box)
    # As `asarray` does it, which looks at more than it needs to.
    return np.frombuffer(resized.tobytes(), np.uint8).reshape(spec.height, spec.width, 3)


def _shrunk(image: Image.Image, long_side_px: int) -> Image.Image:
    _load(image)
    turned = _orientation(image)
    width, height = upright_size(image, turned)
    scale = long_side_px / max(width, height)
    if scale >= 1:
        return upright_rgb(image, turned)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    whole = (0.0, 0.0, float(width), float(height))
    return reduced(image, turned, size, Image.Resampling.LANCZOS, whole)


def _load(image: Image.Image) -> None:
    """Decode, and keep the pixels alone.

    A WebP's decoder has three copies of them and an AVIF's two: they go as soon as there is one
    that is ours, the decoder's before Pillow makes its own.
    """
    if not isinstance(image, ImageFile.ImageFile) or image.format not in DECODED_IN_ONE_GO:
        image.load()
        return
    prepare = image.load_prepare

    def let_go_and_prepare() -> None:
        vars(image).pop("_decoder", None)
        prepare()

    vars(image)["load_prepare"] = let_go_and_prepare
    try:
        image.load()
    finally:
        del vars(image)["load_prepare"]  # which holds the image
        image.fp = None


def _draft(image: Image.Image, spec: Preprocessing) -> None:
    """Let the JPEG decoder shrink by 2, 4 or 8, to no less than the size that is wanted.

    Twelve megapixels decode in a quarter of the time that way.
    """
    turned = _orientation(image) in TURNED_BY_90
    wanted_w, wanted_h = (spec.height, spec.width) if turned else (spec.width, spec.height)
    if spec.fit == "crop":
        scale = max(wanted_w / image.width, wanted_h / image.height) / spec.crop_fraction
        wanted_w, wanted_h = round(image.width * scale), round(image.height * scale)
    image.draft(None, (wanted_w, wanted_h))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; upright where the metadata is damaged, as a sound photo's may be."""
    try:
        found: int = image.getexif().get(EXIF_ORIENTATION, UPRIGHT)
    except Exception:  # SyntaxError, struct.error, ...
        return UPRIGHT
    return found


def _box(size: tuple[int, int], spec: Preprocessing) -> tuple[float, float, float, float]:
    """The part of the upright photo that is resized: (left, top, right, bottom)."""
    width, height = size
    if spec.fit == "squash":
        return (0.0, 0.0, float(width), float(height))
    aspect = spec.width / spec.height
    crop_w = min(width, height * aspect) * spec.crop_fraction
    crop_h = crop_w / aspect
    left, top = (width - crop_w) / 2, (height - crop_h) / 2
    return (left, top, left + crop_w, top + crop_h)
