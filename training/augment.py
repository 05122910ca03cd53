"""Augmentation as batched tensor operations: one code for CPU and GPU.

Every photo gets one affine map (crop, aspect, rotation, flip) sampled in a single pass, one colour
map, and perhaps a grey rectangle. All of it is drawn from one generator, in a fixed order.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import AugmentConfig
from training.whole_batch import uniform

LUMA = (0.299, 0.587, 0.114)
GREY = 127.0
ERASED_SIDE = (0.1, 0.4)  # share of the photo's side


def augment(pixels: Tensor, px: int, config: AugmentConfig, random: torch.Generator) -> Tensor:
    """Change every photo of a batch at random.

    With several processes a photo is changed as it would be in one that has the whole batch.

    Args:
        pixels: uint8 [n, H, W, 3].
        px: side of the result.
        config: how much of what.
        random: a CPU generator, so that a seed gives the same draws on every device.

    Returns:
        float32 [n, px, px, 3] in 0..255.
    """
    n = len(pixels)
    images = pixels.permute(0, 3, 1, 2).to(torch.float32)
    theta = _affine(n, config, random).to(images.device, non_blocking=True)
    grid = F.affine_grid(theta, [n, 3, px, px], align_corners=False)
    images = F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
    images = _recolour(images, config, random)
    return _erase(images, config.erase, random).permute(0, 2, 3, 1)


def _uniform(n: int, low: float, high: float, random: torch.Generator) -> Tensor:
    return uniform(n, random) * (high - low) + low


def _affine(n: int, config: AugmentConfig, random: torch.Generator) -> Tensor:
    """float32 [n, 2, 3]: from the result's coordinates to the photo's, both in -1..1."""
    area = _uniform(n, config.scale_min, 1.0, random)
    bend = math.log(config.aspect_max)
    aspect = torch.exp(_uniform(n, -bend, bend, random))
    half_w = (area * aspect).sqrt().clamp(max=1.0)
    half_h = (area / aspect).sqrt().clamp(max=1.0)
    centre_x = _uniform(n, -1.0, 1.0, random) * (1.0 - half_w)
    centre_y = _uniform(n, -1.0, 1.0, random) * (1.0 - half_h)
    turn = math.radians(config.rotation_degrees)
    angle = _uniform(n, -turn, turn, random)
    mirror = torch.where(uniform(n, random) < config.flip, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = [half_w * cos * mirror, -half_w * sin, centre_x, half_h * sin * mirror, half_h * cos]
    return torch.stack([*rows, centre_y], dim=1).view(n, 2, 3)


def _recolour(images: Tensor, config: AugmentConfig, random: torch.Generator) -> Tensor:
    """Saturation and a cast as one 3x3 matrix, then brightness and contrast about the mean."""
    n = len(images)
    keep = _uniform(n, 1.0 - config.saturation, 1.0 + config.saturation, random).view(n, 1, 1)
    cast = _uniform(n * 3, 1.0 - config.cast, 1.0 + config.cast, random).view(n, 3, 1)
    bright = _uniform(n, 1.0 - config.brightness, 1.0 + config.brightness, random)
    contrast = _uniform(n, 1.0 - config.contrast, 1.0 + config.contrast, random)
    luma = torch.tensor(LUMA).expand(3, 3)
    matrix = (keep * torch.eye(3) + (1.0 - keep) * luma) * cast * bright.view(n, 1, 1)
    images = torch.einsum("nij,njhw->nihw", matrix.to(images.device, non_blocking=True), images)
    contrast = contrast.view(n, 1, 1, 1).to(images.device, non_blocking=True)
    means = images.mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(means, images, contrast).clamp_(0.0, 255.0)


def _erase(images: Tensor, probability: float, random: torch.Generator) -> Tensor:
    """A grey rectangle in some photos (Zhong et al., 2020): no one spot may decide."""
    n, _, height, width = images.shape
    chosen = uniform(n, random) < probability
    side = torch.stack([_uniform(n, *ERASED_SIDE, random) for _ in range(2)])
    start = torch.stack([uniform(n, random) for _ in range(2)]) * (1.0 - side)
    masks = []
    for axis, length in enumerate((height, width)):
        place = (torch.arange(length) + 0.5) / length
        begin, end = start[axis, :, None], (start + side)[axis, :, None]
        inside = (place >= begin) & (place < end) & chosen[:, None]
        # Rows and columns: less to send to a GPU than their product.
        masks.append(inside.to(images.device, non_blocking=True))
    return images.masked_fill(masks[0][:, None, :, None] & masks[1][:, None, None, :], GREY)
