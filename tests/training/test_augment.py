"""Augmentation: its shape, its draws, and exactly what each strength does alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from training.augment import augment
from training.config import AugmentConfig

OFF = AugmentConfig(
    scale_min=1.0,
    aspect_max=1.0,
    rotation_degrees=0.0,
    flip=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    cast=0.0,
    erase=0.0,
)


def only(**strengths: float) -> AugmentConfig:
    return OFF.model_copy(update=strengths)


def photos(n: int = 4, height: int = 16, width: int = 16) -> Tensor:
    drawn = np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    return torch.from_numpy(drawn)


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("px", [8, 16, 33])
@pytest.mark.parametrize("config", [AugmentConfig(), OFF])
def test_the_result_is_float_pixels_of_the_wanted_size(px: int, config: AugmentConfig) -> None:
    got = augment(photos(5, 16, 20), px, config, seeded())
    assert got.shape == (5, px, px, 3)
    assert got.dtype == torch.float32
    assert 0.0 <= float(got.min()) <= float(got.max()) <= 255.0


def test_the_generator_alone_decides() -> None:
    torch.manual_seed(3)
    one = augment(photos(), 16, AugmentConfig(), seeded())
    torch.manual_seed(4)
    assert torch.equal(one, augment(photos(), 16, AugmentConfig(), seeded()))
    assert not torch.equal(one, augment(photos(), 16, AugmentConfig(), seeded(2)))


def test_photos_of_one_batch_are_changed_each_in_its_own_way() -> None:
    same = photos(1).expand(4, -1, -1, -1)
    got = augment(same, 16, AugmentConfig(erase=0.0), seeded())
    for i in range(1, 4):
        assert (got[0] - got[i]).abs().mean() > 1.0


def test_without_strength_nothing_changes() -> None:
    got = augment(photos(), 16, OFF, seeded())
    torch.testing.assert_close(got, photos().float(), rtol=0.0, atol=1.0)


def test_a_certain_flip_mirrors_left_and_right_alone() -> None:
    got = augment(photos(), 16, only(flip=1.0), seeded())
    torch.testing.assert_close(got, photos().float().flip(2), rtol=0.0, atol=1.0)


def test_a_flip_of_a_half_mirrors_about_half_of_the_photos() -> None:
    same = photos(1).expand(400, -1, -1, -1)
    got = augment(same, 16, only(flip=0.5), seeded())
    mirrored = (got - photos(1).float().flip(2)).abs().amax(dim=(1, 2, 3)) < 1.0
    straight = (got - photos(1).float()).abs().amax(dim=(1, 2, 3)) < 1.0
    assert (mirrored ^ straight).all()
    assert 150 < int(mirrored.sum()) < 250


def test_a_turn_is_pillows_turn_and_past_the_edge_the_photo_is_reflected() -> None:
    picture = Image.new("RGB", (64, 64), (40, 90, 160))
    ImageDraw.Draw(picture).rectangle((36, 20, 50, 28), fill=(250, 240, 20))
    pixels = torch.from_numpy(np.asarray(picture).copy())[None]
    got = augment(pixels, 64, only(rotation_degrees=90.0), seeded())[0].numpy()
    gaps = []
    for degrees in range(-90, 91):
        turned = picture.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=(40, 90, 160))
        gaps.append(np.abs(np.asarray(turned, dtype=np.float32) - got).mean())
    assert min(gaps) < 1.0  # one of these turns it is, and the corners have the photo's own blue
    assert max(gaps) > 4.0


def test_a_crop_is_a_part_of_the_photo_of_at_least_the_wanted_area() -> None:
    ramp = torch.arange(64, dtype=torch.uint8)
    across = ramp[None, None, :, None].expand(32, 64, 64, 3) * 3
    down = across.transpose(1, 2)
    for pixels, axis in ((across, 2), (down, 1)):
        got = augment(pixels, 64, only(scale_min=0.25), seeded())
        lows, highs = got.amin(dim=(1, 2, 3)) / 3, got.amax(dim=(1, 2, 3)) / 3
        spans = (highs - lows) / 63
        assert float(spans.min()) >= 0.5 - 0.03  # a quarter of the area is half of the side
        assert float(spans.max()) <= 1.0
        assert float(spans.max() - spans.min()) > 0.3
        steps = got.diff(dim=axis)
        assert float(steps.min()) > -1e-2  # it only goes up: nothing was reflected


def test_brightness_contrast_saturation_and_cast_do_what_they_say() -> None:
    grey = torch.full((64, 8, 8, 3), 100, dtype=torch.uint8)
    bright = augment(grey, 8, only(brightness=0.3), seeded())
    levels = bright.mean(dim=(1, 2, 3))
    assert float(levels.min()) >= 70.0 - 1e-3
    assert float(levels.max()) <= 130.0 + 1e-3
    assert float(levels.max() - levels.min()) > 30.0
    torch.testing.assert_close(bright, levels.view(-1, 1, 1, 1).expand_as(bright))

    same = augment(grey, 8, only(saturation=1.0, contrast=0.5), seeded())
    torch.testing.assert_close(same, grey.float())  # there is nothing to saturate or to contrast

    cast = augment(grey, 8, only(cast=0.1), seeded()).mean(dim=(1, 2))
    assert float(cast.min()) >= 90.0 - 1e-3
    assert float(cast.max()) <= 110.0 + 1e-3
    assert float((cast.amax(dim=1) - cast.amin(dim=1)).max()) > 5.0


def test_saturation_keeps_luma_and_contrast_keeps_the_mean() -> None:
    pixels = torch.randint(100, 156, (16, 8, 8, 3), dtype=torch.uint8)
    luma = torch.tensor([0.299, 0.587, 0.114])
    got = augment(pixels, 8, only(saturation=0.3), seeded())
    torch.testing.assert_close(got @ luma, pixels.float() @ luma, rtol=0.0, atol=0.1)
    assert (got - pixels).abs().max() > 2.0
    got = augment(pixels, 8, only(contrast=0.3), seeded())
    means = [images.float().mean(dim=(1, 2, 3)) for images in (got, pixels)]
    torch.testing.assert_close(means[0], means[1], rtol=0.0, atol=0.1)
    ratio = got.std(dim=(1, 2, 3)) / pixels.float().std(dim=(1, 2, 3))
    assert 0.69 < float(ratio.min()) < 0.9 < 1.1 < float(ratio.max()) < 1.31


def test_an_erased_part_is_one_grey_rectangle() -> None:
    white = torch.full((32, 40, 40, 3), 255, dtype=torch.uint8)
    got = augment(white, 40, only(erase=1.0), seeded())
    for image in got:
        mask = (image == 127.0).all(dim=-1)
        assert ((image == 255.0).all(dim=-1) | mask).all()
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])  # no holes, no second one
        for side in (rows, columns):
            assert int(side.diff().sum()) <= 2
            assert 0.1 * 40 - 1 <= int(side.sum()) <= 0.4 * 40 + 1
    kept = augment(white, 40, only(erase=0.5), seeded())
    assert 6 <= int((kept == 127.0).any(dim=-1).any(dim=-1).any(dim=-1).sum()) <= 26
