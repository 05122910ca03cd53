"""Statistics of a photo are what they are said to be, and move the way that is told."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from service.appearance import NAMES, ROWS, STATISTICS, measure_appearance
from service.preprocess import Pixels
from tests.integration.server import ROOT
from training.camera_changes import CHANGES


def photo(name: str = "metal", width: int = 256, height: int = 256) -> Image.Image:
    whole = Image.open(ROOT / "tests" / "photos" / f"{name}.jpg").convert("RGB")
    return whole.resize((width, height))


def found(image: Image.Image) -> dict[str, float]:
    return dict(zip(NAMES, measure_appearance(np.asarray(image)).tolist(), strict=True))


def plain(pixels: Pixels) -> list[float]:
    """As the definitions read, in floating point."""
    rows = pixels[:: max(1, len(pixels) // ROWS)].astype(np.float64)
    red, green, blue = np.moveaxis(rows, 2, 0)
    luminance, warmth = (red + 2 * green + blue) / 4, red - blue
    greenness = 2 * green - red - blue
    means = [channel.mean() + 1 for channel in (red, green, blue)]
    second = np.abs(np.diff(luminance, n=2, axis=1))
    return [
        np.log((means[0] + 2 * means[1] + means[2]) / 4),
        np.log(means[0] / means[2]),
        np.log(means[1] ** 2 / (means[0] * means[2])),
        np.log(luminance.std() + 1),
        np.log(np.abs(np.diff(luminance, axis=1)).mean() + 1),
        np.log((second > 10).mean() + 0.01),
        (np.abs(np.diff(luminance, axis=1)) <= 0.25).mean(),
        (np.abs(np.diff(warmth, axis=1)) <= 1).mean(),
        (np.diff(greenness, axis=1) == 0).mean(),
        np.log((rows < 48).mean() + 0.01),
        np.log((rows >= 254).mean() + 0.01),
    ]


@pytest.mark.parametrize("size", [(256, 256), (33, 61), (8, 8)])
@pytest.mark.parametrize("name", ["metal", "paper", "trash"])
def test_each_statistic_is_what_a_plain_version_gives(name: str, size: tuple[int, int]) -> None:
    pixels = np.asarray(photo(name, *size))
    measured = measure_appearance(pixels)
    assert measured.dtype == np.float32
    np.testing.assert_allclose(measured, plain(pixels), rtol=1e-5, atol=1e-5)


def noisy(image: Image.Image) -> Image.Image:
    grain = np.random.default_rng(0).normal(0.0, 8.0, (*image.size, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def changed(name: str) -> Callable[[Image.Image], Image.Image]:
    """Mildly."""
    (change,) = [change for change in CHANGES if change.name == name]
    return lambda image: change.apply(image, change.strengths[0], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "statistic", "more"),
    [
        (changed("dark"), "light", False),
        (changed("bright"), "light", True),
        (changed("bright"), "overexposed", True),
        (changed("warm"), "warmth", True),
        (changed("cold"), "warmth", False),
        (changed("green"), "greenness", True),
        (changed("haze"), "contrast", False),
        (changed("haze"), "dark", False),
        (changed("blur"), "edges", False),
        (changed("blur"), "detail", False),
        (changed("resolution"), "edges", False),
        (changed("jpeg"), "even_greenness", True),
        (noisy, "even_light", False),
        (noisy, "even_warmth", False),
        (noisy, "even_greenness", False),
    ],
)
def test_a_change_moves_its_statistic_the_way_that_is_told(
    change: Callable[[Image.Image], Image.Image], statistic: str, more: bool
) -> None:
    names = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    moved = [
        found(change(photo(name)))[statistic] - found(photo(name))[statistic] for name in names
    ]
    assert (np.mean(moved) > 0.01) if more else (np.mean(moved) < -0.01)


def test_half_the_light_leaves_colour_as_it_is() -> None:
    pixels = np.asarray(photo()) // 2 * 2  # so that halves are whole
    before, after = (measure_appearance(part) for part in (pixels, pixels // 2))
    moved = dict(zip(NAMES, (after - before).tolist(), strict=True))
    assert moved["light"] == pytest.approx(np.log(0.5), abs=0.02)
    assert moved["warmth"] == pytest.approx(0.0, abs=0.01)
    assert moved["greenness"] == pytest.approx(0.0, abs=0.01)
    assert moved["contrast"] == pytest.approx(np.log(0.5), abs=0.05)
    assert moved["dark"] > 0.0


def test_a_grey_photo_has_no_colour() -> None:
    grey = found(photo().convert("L").convert("RGB"))
    assert (grey["warmth"], grey["greenness"]) == (0.0, 0.0)
    assert (grey["even_warmth"], grey["even_greenness"]) == (1.0, 1.0)


def test_a_mirrored_photo_looks_the_same() -> None:
    pixels = np.asarray(photo("glass"))
    np.testing.assert_allclose(
        measure_appearance(pixels[:, ::-1]), measure_appearance(pixels), atol=1e-6
    )


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("size", [(8, 8), (256, 256)])
def test_a_blank_photo_has_finite_statistics(value: int, size: tuple[int, int]) -> None:
    measured = measure_appearance(np.full((*size, 3), value, np.uint8))
    assert measured.shape == (len(STATISTICS),)
    assert np.isfinite(measured).all()
