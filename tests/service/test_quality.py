"""Light, sharpness and content are measured as their definitions say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from service.bundle import read_manifest
from service.preprocess import Pixels
from service.quality import LIGHT_STRIDE, ROW_STRIDE, SOME, QualityLimits, measure, unproven
from tests.integration.server import ROOT


def photo(name: str = "metal", px: int = 256) -> Image.Image:
    return Image.open(ROOT / "tests" / "photos" / f"{name}.jpg").convert("RGB").resize((px, px))


def pixels(image: Image.Image) -> Pixels:
    return np.asarray(image)


def naive_sharpness(grey: np.ndarray) -> float:
    """Pixel by pixel."""
    found: dict[tuple[int, int], list[int]] = {d: [] for d in ((0, 1), (1, 0), (1, 1), (1, -1))}
    height, width = grey.shape
    for y in range(1, height - 1, ROW_STRIDE):
        for x in range(1, width - 1):
            for dy, dx in found:
                one, other = int(grey[y - dy, x - dx]), int(grey[y + dy, x + dx])
                found[dy, dx].append(abs(2 * int(grey[y, x]) - one - other))
    return min(sorted(v)[int(0.999 * (len(v) - 1))] for v in found.values())


@pytest.mark.parametrize("name", ["metal", "paper"])
def test_each_measure_is_what_a_plain_version_gives(name: str) -> None:
    image = photo(name, 64)
    found = measure(pixels(image))
    grey = np.asarray(image.convert("L"))
    assert found.sharpness == naive_sharpness(grey)
    light = np.sort(grey[::LIGHT_STRIDE, ::LIGHT_STRIDE].ravel())
    assert found.light == light[int(0.95 * (len(light) - 1))]
    assert found.clipped == np.mean((pixels(image)[::LIGHT_STRIDE, ::LIGHT_STRIDE] >= 254).any(2))
    blocks = pixels(image).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert found.contrast == pytest.approx(np.sqrt(blocks.var(axis=(0, 1)).sum()), abs=0.5)


def test_blur_lowers_sharpness_and_so_does_motion_along_one_line() -> None:
    sharp = measure(pixels(photo())).sharpness
    blurred = measure(pixels(photo().filter(ImageFilter.GaussianBlur(4)))).sharpness
    smear = np.asarray(photo(), dtype=float)
    smear = np.mean([np.roll(smear, shift, axis=1) for shift in range(20)], axis=0)
    assert blurred < 0.2 * sharp
    assert measure(smear.astype(np.uint8)).sharpness < 0.5 * sharp


def test_a_plain_surface_has_no_contrast_and_neither_has_its_noise() -> None:
    plain = np.full((256, 256, 3), 120, np.uint8)
    noisy = np.random.default_rng(0).normal(120, 20, plain.shape).astype(np.uint8)
    assert measure(plain).contrast == 0.0
    assert measure(noisy).contrast < 6.0
    assert measure(pixels(photo())).contrast > 30.0


@given(st.integers(8, 70), st.integers(8, 70), st.integers(0, 2**32 - 1))
def test_every_photo_of_every_shape_has_finite_measures(h: int, w: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    found = measure(image)
    assert all(np.isfinite(value) for value in vars(found).values())
    assert 0.0 <= found.clipped <= 1.0


def doubtful(name: str) -> list[Pixels]:
    """A photo, and what it is with ever less light, sharpness, content and ever more light."""
    image = photo(name)
    blurred = [image.filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 2, 4, 8)]
    values = pixels(image).astype(float)
    scaled = [np.clip(values * by, 0, 255) for by in (0.05, 0.1, 0.2, 0.4, 0.7, 1.5, 3, 10)]
    paler = [128 + (values - 128) * by for by in (0.02, 0.1, 0.3)]
    shapes = [image.resize(size) for size in ((8, 8), (9, 200), (61, 33), (250, 256))]
    half = values.copy()
    half[::32] = 0  # what the rows that are looked at show is not what the photo is
    return [
        *map(pixels, [image, *blurred, *shapes]),
        *(one.astype(np.uint8) for one in [*scaled, *paler, half]),
    ]


@pytest.mark.parametrize("name", ["metal", "paper", "glass"])
@pytest.mark.parametrize(
    "limits",
    [
        QualityLimits(light=60.0),
        QualityLimits(light=200.0),
        QualityLimits(clipped=0.0),
        QualityLimits(clipped=0.2),
        QualityLimits(clipped=0.9),
        QualityLimits(sharpness=5.0),
        QualityLimits(sharpness=60.0),
        QualityLimits(contrast=10.0),
        QualityLimits(contrast=40.0),
        QualityLimits(60.0, 0.9, 8.0, 13.0),
    ],
)
def test_no_photo_is_said_to_keep_a_limit_that_it_does_not_keep(
    name: str, limits: QualityLimits
) -> None:
    for image in doubtful(name):
        found = measure(image)
        broken = {
            "light": found.light < limits.light,
            "clipped": found.clipped > limits.clipped,
            "sharpness": found.sharpness < limits.sharpness,
            "contrast": found.contrast < limits.contrast,
        }
        assert {name for name in broken if broken[name]} <= set(unproven([image], limits)[0])


@pytest.mark.parametrize("swing", [5, 10, 15, 20])
def test_contrast_that_lies_in_the_rows_that_are_looked_at_is_no_proof_of_more(swing: int) -> None:
    """Bright photos, whose squares are large numbers."""
    for base in range(200, 236, 5):
        image = np.full((256, 256, 3), base, np.uint8)
        bands = image.reshape(32, 8, 32, 8, 3)
        bands[::SOME, :, ::2] = base - swing
        bands[::SOME, :, 1::2] = base + swing
        blocks = bands.mean(axis=(1, 3))
        exact = float(np.sqrt(blocks.reshape(-1, 3).var(axis=0).sum()))
        assert measure(image).contrast == pytest.approx(exact, abs=1e-6)
        limits = QualityLimits(contrast=exact * 1.00001)
        assert "contrast" in unproven([image], limits)[0]


@given(st.integers(8, 140), st.integers(8, 140), st.integers(0, 2**32 - 1), st.floats(0.5, 1.2))
def test_nor_is_any_made_up_photo_at_limits_around_its_own(
    h: int, w: int, seed: int, factor: float
) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, random.integers(1, 257), (h, w, 3), dtype=np.uint8)
    image[random.random((h, w)) < random.random()] = 255
    found = measure(image)
    for name, value in vars(found).items():
        limit = value * factor
        kept = value <= limit if name == "clipped" else value >= limit
        assert kept or name in unproven([image], QualityLimits(**{name: limit}))[0]


def test_of_most_ordinary_photos_some_rows_prove_that_they_keep_the_shipped_limits() -> None:
    shipped = read_manifest(ROOT / "models" / "refuse" / "2").quality
    assert shipped is not None
    limits = QualityLimits(
        shipped.least_light, shipped.most_clipped, shipped.least_sharpness, shipped.least_contrast
    )
    photos = [pixels(photo(file.stem)) for file in (ROOT / "tests" / "photos").glob("*.jpg")]
    left = unproven(photos, limits)
    assert left.count(()) >= 0.8 * len(photos)
    assert left == [unproven([one], limits)[0] for one in photos]
