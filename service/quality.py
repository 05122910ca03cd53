"""What a photo is worth before any model looks: light, sharpness, and whether anything is there.

Measured on the pixels that the model sees, so a figure means the same whatever the camera. Each is
a textbook measure that takes some tens of microseconds; limits come with the bundle, from
percentiles of its val photos.
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
    image = Image.fromarray(pixels)
    grey = np.asarray(image.convert("L"))
    blocks = np.asarray(image.reduce(max(1, min(image.size) // BLOCKS)))
    return Quality(
        light=percentile(grey[::LIGHT_STRIDE, ::LIGHT_STRIDE], BRIGHT_SHARE),
        clipped=_clipped(pixels[::LIGHT_STRIDE, ::LIGHT_STRIDE]),
        sharpness=_sharpness(grey.astype(np.int16)),
        contrast=_contrast(blocks.reshape(-1, 3).astype(np.float32)),
    )


def percentile(values: npt.NDArray[np.uint8 | np.int16], share: float) -> float:
    """The value that `share` of them do not exceed.

    Small integers are sorted by radix, always in the same time; partial sorting takes 20 times as
    long where many are equal.
    """
    return float(np.sort(values, axis=None, kind="quicksort")[int(share * (values.size - 1))])


def _clipped(pixels: Pixels) -> float:
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    brightest = np.maximum(np.maximum(red, green), blue)
    return int(np.count_nonzero(brightest >= CLIPPED)) / brightest.size


def _contrast(blocks: npt.NDArray[np.float32]) -> float:
    """Of float32 [n, 3]."""
    mean = blocks.mean(axis=0)
    variance = np.vdot(blocks, blocks) / len(blocks) - np.vdot(mean, mean)
    return float(np.sqrt(max(0.0, float(variance))))


def _sharpness(grey: npt.NDArray[np.int16]) -> float:
    """Of int16 [H, W]: the modified Laplacian (Nayar and Nakagawa, 1994) by direction."""
    above, at, below = grey[:-2:ROW_STRIDE], grey[1:-1:ROW_STRIDE], grey[2::ROW_STRIDE]
    twice = 2 * at[:, 1:-1]
    sides = (
        (at[:, :-2], at[:, 2:]),
        (above[:, 1:-1], below[:, 1:-1]),
        (above[:, :-2], below[:, 2:]),
        (above[:, 2:], below[:, :-2]),
    )
    return min(percentile(_apart(twice, one, other), SHARP_SHARE) for one, other in sides)


def _apart(
    twice: npt.NDArray[np.int16], one: npt.NDArray[np.int16], other: npt.NDArray[np.int16]
) -> npt.NDArray[np.int16]:
    difference = twice - one
    difference -= other
    np.abs(difference, out=difference)
    return difference
