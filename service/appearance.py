"""How a photo looks whatever is on it: light, colour and grain as a few statistics of its pixels.

A change of lamp, lens or camera moves their mean before a model minds it. They are of the pixels
that the model sees, a few rows of them: a mean over hundreds of photos needs no more of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.preprocess import Pixels

ROWS = 8  # that are looked at
QUARTERS = 4  # of a grey level: what luminance is counted in
EDGE = 10  # grey levels by which the step to the next pixel differs from the one before
EVEN = np.array([1, 1, 0], np.int16).reshape(3, 1, 1)  # such steps along the axes are none
DARK = 48  # of a channel
OVEREXPOSED = 254  # of a channel: from here on light is lost
LEAST_SHARE = 0.01  # is added to shares before their logarithm, as 1 is to levels

Appearance = npt.NDArray[np.float32]
Steps = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Statistic:
    """One of the numbers, and what photos do where it is less than usual, and where it is more."""

    name: str
    less: str
    more: str


STATISTICS = (
    Statistic("light", "are darker", "are brighter"),
    Statistic("warmth", "are colder", "are warmer"),
    Statistic("greenness", "are more magenta", "are greener"),
    Statistic("contrast", "have less contrast", "have more contrast"),
    Statistic("detail", "have less fine detail", "have more fine detail"),
    Statistic("edges", "are less sharp", "are sharper"),
    Statistic("even_light", "are grainier", "are smoother"),
    Statistic("even_warmth", "are grainier in red and blue", "are smoother in red and blue"),
    Statistic("even_greenness", "are grainier in green", "are smoother in green"),
    Statistic("dark", "have fewer dark parts", "have more dark parts"),
    Statistic("overexposed", "have fewer overexposed parts", "have more overexposed parts"),
)
NAMES = tuple(statistic.name for statistic in STATISTICS)


def measure_appearance(pixels: Pixels) -> Appearance:
    """`STATISTICS` of one photo, uint8 [H, W, 3], RGB, at least 8 x 8: float32 [A].

    Colour is along the opponent axes red - blue and 2 green - red - blue; luminance is
    (red + 2 green + blue) / 4. Levels and rare shares are told by their logarithms, so that a gain
    moves them alike whatever they are.
    """
    rows = pixels[:: max(1, len(pixels) // ROWS)]
    channels = rows.transpose(2, 0, 1).astype(np.int16, order="C")
    axes = _axes(channels)
    steps = axes[..., 1:] - axes[..., :-1]  # from one pixel to the next
    bends = np.abs(steps[0, :, 1:] - steps[0, :, :-1])
    sizes = np.abs(steps)
    even = sizes <= EVEN
    area = axes[0].size
    sums = np.add.reduce(axes.reshape(3, -1), axis=1, dtype=np.int64).tolist()
    light, warmth, greenness = (total / area for total in sums)
    red = (light - greenness) / 4.0 + warmth / 2.0 + 1.0
    green = (light + greenness) / 4.0 + 1.0
    blue = red - warmth
    around = axes[0].reshape(-1) - np.float32(light)
    deviation = math.sqrt(float(np.vdot(around, around)) / area)
    detail = int(np.add.reduce(sizes[0], axis=None, dtype=np.int64)) / even[0].size
    values = (
        math.log(light / QUARTERS + 1.0),
        math.log(red / blue),
        math.log(green * green / (red * blue)),
        math.log(deviation / QUARTERS + 1.0),
        math.log(detail / QUARTERS + 1.0),
        _rare(bends > QUARTERS * EDGE),
        _share(even[0]),
        _share(even[1]),
        _share(even[2]),
        _rare(channels < DARK),
        _rare(channels >= OVEREXPOSED),
    )
    return np.array(values, np.float32)


def _axes(channels: Steps) -> Steps:
    """Luminance in quarters of a level, red - blue, 2 green - red - blue: [3, R, W]."""
    red, green, blue = channels
    axes = np.empty_like(channels)
    ends, twice = red + blue, green + green
    np.add(twice, ends, out=axes[0])
    np.subtract(red, blue, out=axes[1])
    np.subtract(twice, ends, out=axes[2])
    return axes


def _share(found: npt.NDArray[np.bool_]) -> float:
    return int(np.count_nonzero(found)) / found.size


def _rare(found: npt.NDArray[np.bool_]) -> float:
    return math.log(_share(found) + LEAST_SHARE)
