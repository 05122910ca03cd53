"""What happens to photos when a camera, its light or its place changes, and what happens anyway.

`jittered` is the ordinary unrest between two photos of one thing by one camera. `CHANGES` make a
photo as another camera would have taken it. The first says how far a statistic wanders when nothing
is wrong; the others which way the embedding goes when something is.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter

MODEL_PX = 256  # in which blur and resolution are counted, whatever the photo's own size
BELT_RGB = (70, 78, 74)  # of a conveyor belt

Random = np.random.Generator
Change = Callable[[Image.Image, float, Random], Image.Image]


@dataclass(frozen=True)
class CameraChange:
    """A change with its name, its words for a person, and strengths from mild to strong."""

    name: str
    words: str
    change: Change
    strengths: tuple[float, ...]

    def apply(self, image: Image.Image, strength: float, random: Random) -> Image.Image:
        """The photo as it would be, RGB, of any size."""
        return self.change(image, strength, random)


def jittered(image: Image.Image, random: Random) -> bytes:
    """A JPEG of nearly the same photo: crop and shift of up to 6%, light ±5%, quality 75 to 95."""
    width, height = image.size
    kept = random.uniform(0.94, 1.0, size=2)
    left = random.uniform(0, 1 - kept[0]) * width
    top = random.uniform(0, 1 - kept[1]) * height
    box = (round(left), round(top), round(left + kept[0] * width), round(top + kept[1] * height))
    lit = ImageEnhance.Brightness(image.crop(box)).enhance(random.uniform(0.95, 1.05))
    return encoded(lit, int(random.integers(75, 96)))


def encoded(image: Image.Image, quality: int) -> bytes:
    """The bytes of a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _pixel(image: Image.Image) -> float:
    """One pixel of what the model sees, in pixels of the photo."""
    return min(image.size) / MODEL_PX


def _blur(image: Image.Image, strength: float, random: Random) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(strength * _pixel(image)))


def _gains(red: float, green: float, blue: float) -> Change:
    """Channels multiplied by 1 + strength times these."""

    def change(image: Image.Image, strength: float, random: Random) -> Image.Image:
        gains = 1.0 + strength * np.array([red, green, blue])
        return _image(np.asarray(image) * gains)

    return change


def _exposure(image: Image.Image, strength: float, random: Random) -> Image.Image:
    return _image(np.asarray(image) * np.float64(strength))


def _haze(image: Image.Image, strength: float, random: Random) -> Image.Image:
    return Image.blend(image, Image.new("RGB", image.size, (190, 190, 190)), strength)


def _noise(image: Image.Image, strength: float, random: Random) -> Image.Image:
    pixels = np.asarray(image)
    return _image(pixels + random.normal(0.0, strength, pixels.shape))


def _jpeg(image: Image.Image, strength: float, random: Random) -> Image.Image:
    return Image.open(io.BytesIO(encoded(image, int(strength)))).convert("RGB")


def _resolution(image: Image.Image, strength: float, random: Random) -> Image.Image:
    scale = strength / min(image.size)
    small = image.resize([max(1, round(side * scale)) for side in image.size])
    return small.resize(image.size, Image.Resampling.BILINEAR)


def _zoom(image: Image.Image, strength: float, random: Random) -> Image.Image:
    width, height = image.size
    left, top = width * (1 - strength) / 2, height * (1 - strength) / 2
    return image.crop((round(left), round(top), round(width - left), round(height - top)))


def _rotation(image: Image.Image, strength: float, random: Random) -> Image.Image:
    red, green, blue = _edge(np.asarray(image, np.float64))
    edge = (int(red), int(green), int(blue))
    return image.rotate(strength, Image.Resampling.BILINEAR, expand=True, fillcolor=edge)


def _background(image: Image.Image, strength: float, random: Random) -> Image.Image:
    """A belt where the photo's border goes on inwards; `strength` is how unlike it may be."""
    pixels = np.asarray(image, np.float64)
    unlike = np.abs(pixels - _edge(pixels)).max(axis=2)
    share = np.clip(1.5 - unlike / strength, 0.0, 1.0)[..., None]
    return _image(share * _belt(pixels.shape[:2], random) + (1 - share) * pixels)


def _surroundings(image: Image.Image, strength: float, random: Random) -> Image.Image:
    """Farther away, on a belt: the photo takes `strength` of either side."""
    canvas = _image(_belt((image.height, image.width), random))
    small = image.resize([max(1, round(side * strength)) for side in image.size])
    free = [whole - part for whole, part in zip(image.size, small.size, strict=True)]
    canvas.paste(small, (free[0] // 2, free[1] // 2))
    return canvas


def _belt(shape: tuple[int, ...], random: Random) -> npt.NDArray[np.float64]:
    """Grey-green rubber with ribs and grain: [H, W, 3]."""
    ribs = 12.0 * np.sin(np.arange(shape[1]) * 40.0 / shape[1])[None, :]
    grain = random.normal(0.0, 6.0, shape)
    return np.array(BELT_RGB) + (ribs + grain)[..., None]


def _edge(pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The median colour of the outermost pixels: [3]."""
    outermost = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return np.asarray(np.median(outermost, axis=0))


def _image(pixels: npt.NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


CHANGES = (
    CameraChange("blur", "out of focus", _blur, (1.0, 2.0, 4.0)),
    CameraChange("warm", "a warmer colour", _gains(1.0, 0.0, -1.0), (0.1, 0.2, 0.4)),
    CameraChange("cold", "a colder colour", _gains(-1.0, 0.0, 1.0), (0.1, 0.2, 0.4)),
    CameraChange("green", "a greener colour", _gains(-0.5, 0.5, -0.5), (0.1, 0.2, 0.4)),
    CameraChange("background", "another background", _background, (20.0, 40.0, 80.0)),
    CameraChange("far", "things farther away", _surroundings, (0.85, 0.7, 0.5)),
    CameraChange("near", "things nearer", _zoom, (0.85, 0.7, 0.5)),
    CameraChange("dark", "less light", _exposure, (0.8, 0.6, 0.4)),
    CameraChange("bright", "too much light", _exposure, (1.2, 1.5, 2.0)),
    CameraChange("haze", "a dirty or fogged lens", _haze, (0.15, 0.3, 0.5)),
    CameraChange("noise", "a noisier picture", _noise, (8.0, 16.0, 32.0)),
    CameraChange("jpeg", "a lower JPEG quality", _jpeg, (40.0, 20.0, 8.0)),
    CameraChange("resolution", "fewer pixels", _resolution, (160.0, 96.0, 56.0)),
    CameraChange("rotation", "a turned camera", _rotation, (10.0, 45.0, 90.0)),
)
