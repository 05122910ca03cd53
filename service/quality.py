"""What a photo is worth before any model looks: light, sharpness, and whether anything is there.

Measured on the pixels that the model sees, so a figure means the same whatever the camera. Each is
a textbook measure; limits come with the bundle, from percentiles of its val photos.

Nearly all photos keep their limits by far, which a quarter of their rows prove. `surely_keep` looks
at those alone and at several photos together: between two runs of a model nothing of this is in the
processor's caches, and each call costs more than its work.
"""

from __future__ import annotations

from collections.abc import Sequence
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
SOME = 4  # one row of blocks in so many is looked at for a proof; a multiple of both strides
SLACK = 1.001  # for sums in another order

Greys = npt.NDArray[np.uint8]
Edges = npt.NDArray[np.int16]


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
    image = Image.fromarray(pixels)
    grey = np.asarray(image.convert("L"))
    return Quality(
        light=percentile(grey[::LIGHT_STRIDE, ::LIGHT_STRIDE], BRIGHT_SHARE),
        clipped=float(_clipped(pixels[::LIGHT_STRIDE, ::LIGHT_STRIDE]).mean()),
        sharpness=min(percentile(edges, SHARP_SHARE) for edges in _edges(grey)),
        contrast=float(np.sqrt(_variance(np.asarray(image.reduce(_block(pixels)))))),
    )


def surely_keep(photos: Sequence[Pixels], limits: QualityLimits) -> list[bool]:
    """Whether some of each photo's rows prove that it keeps all limits.

    Args:
        photos: N of uint8 [H, W, 3], RGB, of one size, at least 8 x 8.
        limits: which `measure` would keep as well, wherever this says so.

    Returns:
        N, each False where a limit is not kept, or where that takes more to tell.
    """
    height, width, _ = photos[0].shape
    block = _block(photos[0])
    if block <= ROW_STRIDE:  # no row has both of its neighbours
        return [False] * len(photos)
    rows = height // block * block
    whole = [photo[:rows].reshape(-1, block, width, 3)[::SOME] for photo in photos]
    some = np.stack(whole)  # [N, R, block, W, 3]
    image = Image.fromarray(some.reshape(-1, width, 3))
    grey = np.asarray(image.convert("L")).reshape(some.shape[:-1])
    blocks = np.asarray(image.reduce(block)).reshape(len(photos), -1, 3)
    light = grey[..., ::LIGHT_STRIDE, ::LIGHT_STRIDE] >= limits.light
    clipped = _clipped(some[..., ::LIGHT_STRIDE, ::LIGHT_STRIDE, :])
    sharp = _edges(grey) >= limits.sharpness

    lights = -(-height // LIGHT_STRIDE) * -(-width // LIGHT_STRIDE)
    lines = len(range(0, height - 2, ROW_STRIDE)) * (width - 2)
    share = some.shape[1] / -(-height // block)  # of all blocks
    return [
        _count(light[i]) >= _least(BRIGHT_SHARE, lights)
        and clipped[i].size - _count(clipped[i]) >= (1 - limits.clipped) * lights
        and all(_count(one) >= _least(SHARP_SHARE, lines) for one in sharp[:, i])
        # They vary around their own mean no more than around that of all.
        and share * _variance(blocks[i]) >= SLACK * limits.contrast**2
        for i in range(len(photos))
    ]


def percentile(values: Greys | Edges, share: float) -> float:
    """The value that `share` of them do not exceed.

    Small integers are sorted by radix, always in the same time; partial sorting takes 20 times as
    long where many are equal.
    """
    return float(np.sort(values, axis=None, kind="quicksort")[int(share * (values.size - 1))])


def _least(share: float, of_all: int) -> int:
    """Of so many values those that have to reach a limit for `percentile` to reach it."""
    return of_all - int(share * (of_all - 1))


def _count(found: npt.NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(found))


def _clipped(pixels: Pixels) -> npt.NDArray[np.bool_]:
    """Where a channel is at its end, [...] of [..., 3]."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    brightest = np.maximum(np.maximum(red, green), blue)
    return np.asarray(brightest >= CLIPPED)


def _block(pixels: Pixels) -> int:
    """Length of a block's side, in pixels."""
    shorter: int = min(pixels.shape[:2])
    return max(1, shorter // BLOCKS)


def _variance(blocks: Pixels) -> float:
    """Of the means of blocks [..., 3], over the three channels together."""
    means = np.asarray(blocks, dtype=np.float32).reshape(-1, 3)
    total = np.add.reduce(means, axis=0)  # `mean` takes longer than all the rest
    variance = np.vdot(means, means) / len(means) - np.vdot(total, total) / len(means) ** 2
    return max(0.0, float(variance))


def _edges(grey: Greys) -> Edges:
    """Second differences along each of four directions: [4, ..., L, W - 2] of [..., H, W].

    The modified Laplacian (Nayar and Nakagawa, 1994), by direction, of every other line.
    """
    above, at, below = (
        grey[..., :-2:ROW_STRIDE, :],
        grey[..., 1:-1:ROW_STRIDE, :],
        grey[..., 2::ROW_STRIDE, :],
    )
    sides = (
        (at[..., :-2], at[..., 2:]),
        (above[..., 1:-1], below[..., 1:-1]),
        (above[..., :-2], below[..., 2:]),
        (above[..., 2:], below[..., :-2]),
    )
    twice = np.multiply(at[..., 1:-1], 2, dtype=np.int16)
    edges = np.empty((4, *twice.shape), dtype=np.int16)
    for direction, (one, other) in enumerate(sides):
        np.add(one, other, out=edges[direction], dtype=np.int16)
    edges -= twice
    return np.abs(edges, out=edges)
