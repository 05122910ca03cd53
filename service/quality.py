"""What a photo is worth before any model looks: light, sharpness, and whether anything is there.

Measured on the pixels that the model sees, so a figure means the same whatever the camera. Each is
a textbook measure; limits come with the bundle, from percentiles of its val photos.

Nearly all photos keep their limits by far, which some of their rows prove: `surely_keeps` reads
those alone, since a photo that is about to go through a model is better not driven out of the
cache. What it cannot prove is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.preprocess import Pixels

BRIGHT_SHARE = 0.95  # the percentile that says how bright the bright parts are
CLIPPED = 254  # of a channel: from here on light is lost
SHARP_SHARE = 0.999  # the percentile of edges that counts: a sharp photo needs few
BLOCKS = 32  # along the shorter side, for what is there; each averages noise and texture away
LIGHT_STRIDE = 4  # light needs no neighbours
ROW_STRIDE = 2
SOME_ROWS = 16  # one in so many is looked at for sharpness; a multiple of ROW_STRIDE
SOME_BLOCKS = 4  # likewise of rows of blocks
SOME_LIGHT = 4  # and of the rows that count for light
GREEN = 0.587  # its share of luminance
SLACK = 1.001  # for sums in another order

Greys = npt.NDArray[np.uint8 | np.int16]


@dataclass(frozen=True)
class QualityLimits:
    """What a photo has to keep, in the words of `Quality`; the defaults say nothing."""

    light: float = 0.0
    clipped: float = 1.0
    sharpness: float = 0.0
    contrast: float = 0.0


@dataclass(frozen=True)
class Quality:
    """Measures of one photo.

    Attributes:
        light: luminance (Rec. 601, 0 to 255) of the bright parts, the 95th percentile.
        clipped: share of pixels of which a channel is at its end, 0 to 1.
        sharpness: second difference along a line of three pixels, its 99.9th percentile, in
            whichever of four directions it is least: motion blurs along one of them. 0 to 510.
        contrast: standard deviation of block means, over the three channels together, 0 to 221.
    """

    light: float
    clipped: float
    sharpness: float
    contrast: float


def measure(pixels: Pixels) -> Quality:
    """Measure one photo, uint8 [H, W, 3], RGB, at least 8 x 8."""
    some = pixels[::LIGHT_STRIDE, ::LIGHT_STRIDE]
    return Quality(
        light=percentile(_grey(some), BRIGHT_SHARE),
        clipped=_clipped(some),
        sharpness=min(percentile(edges, SHARP_SHARE) for edges in _edges(*_lines(_grey(pixels)))),
        contrast=float(np.sqrt(_spread(pixels, _block(pixels)))),
    )


def surely_keeps(pixels: Pixels, limits: QualityLimits) -> bool:
    """Whether some of a photo's rows prove that it keeps all limits.

    Args:
        pixels: uint8 [H, W, 3], RGB, at least 8 x 8.
        limits: which `measure` would keep as well, wherever this says so.

    Returns:
        False where a limit is not kept, or where that takes more to tell.
    """
    some = pixels[::LIGHT_STRIDE, ::LIGHT_STRIDE]
    return (
        (_surely_lit(some, limits) or _lit(some, limits))
        and _surely_sharp(pixels, limits.sharpness)
        and _surely_varied(pixels, limits.contrast)
    )


def _lit(some: Pixels, limits: QualityLimits) -> bool:
    """Whether the pixels that count for light keep both of its limits."""
    return _clipped(some) <= limits.clipped and _reaches(_grey(some), BRIGHT_SHARE, limits.light)


def _surely_lit(some: Pixels, limits: QualityLimits) -> bool:
    """By some of them: luminance is green's share of it at least, and no pixel is clipped twice."""
    fewer, of_all = some[::SOME_LIGHT], some.shape[0] * some.shape[1]
    sound = fewer.shape[0] * fewer.shape[1] - np.count_nonzero(fewer >= CLIPPED)
    return sound >= SLACK * (1 - limits.clipped) * of_all and _reaches(
        fewer[..., 1], BRIGHT_SHARE, SLACK * limits.light / GREEN, of_all
    )


def _surely_sharp(pixels: Pixels, limit: float) -> bool:
    """By lines of three rows each, out of those that `measure` looks at."""
    height, width, _ = pixels.shape
    first = np.arange(0, height - 2, SOME_ROWS)
    rows = (first[:, np.newaxis] + np.arange(3)).reshape(-1)
    grey = _grey(pixels[rows]).reshape(len(first), 3, width)
    edges = _edges(grey[:, 0], grey[:, 1], grey[:, 2])
    of_all = len(range(0, height - 2, ROW_STRIDE)) * (width - 2)
    return all(_reaches(one, SHARP_SHARE, limit, of_all) for one in edges)


def _surely_varied(pixels: Pixels, limit: float) -> bool:
    """By some rows of blocks: they vary around their own mean no more than around that of all."""
    height, width, _ = pixels.shape
    block = _block(pixels)
    whole = pixels[: height // block * block].reshape(-1, block, width, 3)
    some = whole[::SOME_BLOCKS]
    share: float = len(some) / -(-height // block)
    return share * _spread(some.reshape(-1, width, 3), block) >= SLACK * limit**2


def _reaches(values: Greys, share: float, limit: float, of_all: int | None = None) -> bool:
    """Whether `percentile(values, share)` is at least the limit.

    Where the values are only some of `of_all`, whether that is sure whatever the others are.
    """
    size: int = of_all or values.size
    return int(np.count_nonzero(values >= limit)) >= size - int(share * (size - 1))


def percentile(values: Greys, share: float) -> float:
    """The value that `share` of them do not exceed.

    Small integers are sorted by radix, always in the same time; partial sorting takes 20 times as
    long where many are equal.
    """
    return float(np.sort(values, axis=None, kind="quicksort")[int(share * (values.size - 1))])


def _grey(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Luminance, Rec. 601: uint8 [H, W]."""
    return np.asarray(Image.fromarray(pixels).convert("L"))


def _clipped(pixels: Pixels) -> float:
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    brightest = np.maximum(np.maximum(red, green), blue)
    return int(np.count_nonzero(brightest >= CLIPPED)) / brightest.size


def _block(pixels: Pixels) -> int:
    """Length of a block's side, in pixels."""
    shorter: int = min(pixels.shape[:2])
    return max(1, shorter // BLOCKS)


def _spread(pixels: Pixels, block: int) -> float:
    """Variance of the blocks' means, over the three channels together."""
    reduced = np.asarray(Image.fromarray(pixels).reduce(block), dtype=np.float32)
    blocks = reduced.reshape(-1, 3)
    total = np.add.reduce(blocks, axis=0)  # `mean` takes longer than all the rest
    variance = np.vdot(blocks, blocks) / len(blocks) - np.vdot(total, total) / len(blocks) ** 2
    return max(0.0, float(variance))


def _lines(grey: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], ...]:
    """Of [H, W], those that are looked at between their neighbours: above, at, below."""
    return grey[:-2:ROW_STRIDE], grey[1:-1:ROW_STRIDE], grey[2::ROW_STRIDE]


def _edges(
    above: npt.NDArray[np.uint8], at: npt.NDArray[np.uint8], below: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int16]:
    """Second differences in each of four directions: [4, R, W - 2], of [R, W] and its neighbours.

    The modified Laplacian (Nayar and Nakagawa, 1994), by direction.
    """
    edges = np.empty((4, at.shape[0], at.shape[1] - 2), dtype=np.int16)
    sides = (
        (at[:, :-2], at[:, 2:]),
        (above[:, 1:-1], below[:, 1:-1]),
        (above[:, :-2], below[:, 2:]),
        (above[:, 2:], below[:, :-2]),
    )
    for direction, (one, other) in enumerate(sides):
        np.add(one, other, out=edges[direction], dtype=np.int16)
    edges -= np.multiply(at[:, 1:-1], 2, dtype=np.int16)
    return np.abs(edges, out=edges)
