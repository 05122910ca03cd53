"""ResNet-18/34/50/101/152 (He et al., CVPR 2016), with an ImageNet or a CIFAR stem.

The stride of a bottleneck sits on its 3x3 convolution, as in every current implementation, and the
last BatchNorm of each block starts at zero (Goyal et al., 2017), so that a block begins as the
identity.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS: dict[str, tuple[bool, tuple[int, int, int, int]]] = {
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
WIDTHS = (64, 128, 256, 512)


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or the 1-3-1 bottleneck, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = width * 4 if bottleneck else width
        shape = (
            [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
            if bottleneck
            else [(inputs, width, 3, stride), (width, outputs, 3, 1)]
        )
        layers = [_conv_bn(*spec) for spec in shape]
        nn.init.zeros_(cast(Tensor, layers[-1][1].weight))
        self.layers = nn.ModuleList(layers)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else _conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.layers[:-1]:
            y = F.relu(layer(y), inplace=True)
        return F.relu(self.layers[-1](y) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Normalised images [n, 3, H, W] to pooled features [n, width]."""

    def __init__(self, name: str, stem: str) -> None:
        super().__init__()
        bottleneck, depths = DEPTHS[name]
        small = stem == "cifar"
        self.stem = _conv_bn(3, 64, 3 if small else 7, 1 if small else 2)
        self.pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        blocks, inputs = [], 64
        for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(Block(inputs, width, stride, bottleneck))
                inputs = width * 4 if bottleneck else width
        self.blocks = nn.Sequential(*blocks)
        self.width = inputs
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def groups(self) -> list[nn.Module]:
        """Parts from the input up, for freezing the first few: the stem, then each block."""
        return [self.stem, *self.blocks]

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.stem(x), inplace=True))
        return self.blocks(x).mean(dim=(2, 3))
