"""Photos made worse as cameras make them: too little light, too much, out of focus, moved, empty.

All work on uint8 [H, W, 3] sRGB in the camera's resolution, before the service resizes. Light is
scaled where it is linear, and what is dark is noisy: photons are counted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import convolve, gaussian_filter, rotate

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

FULL_WELL = 2000.0  # electrons of a white pixel, of a small sensor indoors
READ_NOISE = 4.0  # electrons


def linear(pixels: Pixels) -> Floats:
    """Light, 0 to 1, by the sRGB transfer function (IEC 61966-2-1)."""
    share = pixels / 255.0
    return np.asarray(np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4))


def encoded(light: Floats) -> Pixels:
    """sRGB of light, clipped."""
    light = np.clip(light, 0.0, 1.0)
    share = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray((share * 255.0).round(), dtype=np.uint8)


def exposed(pixels: Pixels, stops: float, random: np.random.Generator) -> Pixels:
    """2**stops as much light, with shot noise and read noise; what is beyond white is lost."""
    electrons = linear(pixels) * 2.0**stops * FULL_WELL
    counted = random.poisson(electrons) + random.normal(0.0, READ_NOISE, electrons.shape)
    return encoded(np.minimum(counted, FULL_WELL) / FULL_WELL)


def defocused(pixels: Pixels, share: float, random: np.random.Generator) -> Pixels:
    """Gaussian blur in linear light; its sigma is `share` per cent of the shorter side."""
    sigma = share / 100.0 * min(pixels.shape[:2])
    return encoded(gaussian_filter(linear(pixels), (sigma, sigma, 0)))


def moved(pixels: Pixels, share: float, random: np.random.Generator) -> Pixels:
    """Motion along a line of `share` per cent of the shorter side, in any direction."""
    length = max(1, round(share / 100.0 * min(pixels.shape[:2])))
    line = np.zeros((length + (length + 1) % 2,) * 2)
    line[len(line) // 2] = 1.0
    kernel = np.clip(rotate(line, random.uniform(0, 180), reshape=False, order=1), 0, None)
    return encoded(convolve(linear(pixels), (kernel / kernel.sum())[..., None], mode="nearest"))


def surface(strength: float, random: np.random.Generator, size: int = 512) -> Pixels:
    """A belt or a table with nothing on it, lit from one side, photographed with noise.

    Args:
        strength: contrast of its texture, 0 for none; a real table has 0.05 to 0.3.
    """
    y, x = np.mgrid[0:size, 0:size] / size
    grain = random.normal(0, 1, (size, size))
    across, along = random.uniform(0.5, 6.0), random.uniform(0.5, 40.0)
    texture = gaussian_filter(grain, (across, along))
    texture /= texture.std()
    ribs = np.sin(2 * np.pi * y * random.uniform(10, 60)) * random.integers(0, 2)
    angle = random.uniform(0, 2 * np.pi)
    light = 1.0 + random.uniform(0, 0.3) * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    shade = light * (1.0 + strength * (texture + ribs) / 3)
    colour = linear(random.integers(25, 230) + random.integers(-20, 21, 3).clip(-20, 20))
    return exposed(encoded(np.clip(shade[..., None] * colour, 0, 1)), 0.0, random)
