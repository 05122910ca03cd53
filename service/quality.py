"""What a photo is worth before any model looks: light, sharpness, and whether anything is there.

Measured on the pixels that the model sees, so a figure means the same whatever the camera. Each is
a textbook measure; limits come with the bundle, from percentiles of its val photos.

Nearly all photos keep their limits by far, which a quarter of their rows prove. `unproven` looks
at those alone and at several photos together: between two runs of a model nothing of this is in the
processor's caches, and each call costs more than its work. What it leaves open is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
    return Quality(**{name: of(pixels) for name, of in MEASURES.items()})


def unproven(photos: Sequence[Pixels], limits: QualityLimits) -> list[tuple[str, ...]]:
    """Of which limits some of each photo's rows do not prove that it keeps them.

    Args:
        photos: N of uint8 [H, W, 3], RGB, of one size, at least 8 x 8.
        limits: which `measure` would keep as well, wherever this says so.

    Returns:
        N times names of `MEASURES`: those limits are not kept, or that takes more to tell.
    """
    height, width, _ = photos[0].shape
    block = _block(photos[0])
    if block <= ROW_STRIDE:  # no row has both of its neighbours
        return [tuple(MEASURES)] * len(photos)
    rows = height // block * block
    some = np.concatenate(
        [photo[:rows].reshape(height // block, block, width, 3)[::SOME] for photo in photos]
    ).reshape(len(photos), -1, block, width, 3)  # R rows of blocks: [N, R, block, W, 3]
    image = Image.frombuffer("RGB", (width, some.size // width // 3), some, "raw", "RGB", 0, 1)
    grey = _bytes(image.convert("L")).reshape(some.shape[:-1])
    variances = _variances(_bytes(image.reduce(block)).reshape(len(photos), -1, 3))
    # Of whole numbers, by whole numbers, which takes half as long.
    light = grey[..., ::LIGHT_STRIDE, ::LIGHT_STRIDE] >= math.ceil(limits.light)
    clipped = _clipped(some[..., ::LIGHT_STRIDE, ::LIGHT_STRIDE, :])
    sharp = _edges(grey) >= math.ceil(limits.sharpness)

    lights = -(-height // LIGHT_STRIDE) * -(-width // LIGHT_STRIDE)
    lines = len(range(0, height - 2, ROW_STRIDE)) * (width - 2)
    share = some.shape[1] / -(-height // block)  # of all blocks
    found = []
    for i in range(len(photos)):
        proved = (
            _count(light[i]) >= _least(BRIGHT_SHARE, lights),
            clipped[i].size - _count(clipped[i]) >= (1 - limits.clipped) * lights,
            all(_count(one) >= _least(SHARP_SHARE, lines) for one in sharp[:, i]),
            # They vary around their own mean no more than around that of all.
            share * variances[i] >= SLACK * limits.contrast**2,
        )
        found.append(tuple(name for name, kept in zip(MEASURES, proved, strict=True) if not kept))
    return found


def _light(pixels: Pixels) -> float:
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    return percentile(grey[::LIGHT_STRIDE, ::LIGHT_STRIDE], BRIGHT_SHARE)


def _overexposed(pixels: Pixels) -> float:
    return float(_clipped(pixels[::LIGHT_STRIDE, ::LIGHT_STRIDE]).mean())


def _sharpness(pixels: Pixels) -> float:
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    return min(percentile(edges, SHARP_SHARE) for edges in _edges(grey))


def _contrast(pixels: Pixels) -> float:
    blocks = np.asarray(Image.fromarray(pixels).reduce(_block(pixels)))
    (variance,) = _variances(blocks.reshape(1, -1, 3))
    return math.sqrt(variance)


MEASURES: Mapping[str, Callable[[Pixels], float]] = {  # of `Quality`, each by itself
    "light": _light,
    "clipped": _overexposed,
    "sharpness": _sharpness,
    "contrast": _contrast,
}


def percentile(values: Greys | Edges, share: float) -> float:
    """The value that `share` of them do not exceed.

    Small integers are sorted by radix, always in the same time; partial sorting takes 20 times as
    long where many are equal.
    """
    return float(np.sort(values, axis=None, kind="quicksort")[int(share * (values.size - 1))])


def _bytes(image: Image.Image) -> npt.NDArray[np.uint8]:
    """All in one row; `asarray` looks at more than it needs to."""
    return np.frombuffer(image.tobytes(), np.uint8)


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


def _variances(blocks: Pixels) -> list[float]:
    """Of N photos' blocks [N, P, 3], over the three channels together."""
    means = blocks.astype(np.float64)  # einsum adds up one by one, where float32 soon rounds
    total = np.add.reduce(means, axis=1) / means.shape[1]  # `mean` takes longer than all the rest
    squares = np.einsum("npc,npc->n", means, means) / means.shape[1]
    found: list[float] = (squares - np.einsum("nc,nc->n", total, total)).tolist()
    return [max(0.0, one) for one in found]


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
