"""A backbone and a method as one module over uint8 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from training.backbones import Normalise, build_backbone
from training.config import Config
from training.errors import ConfigError
from training.methods import Answer, Context, Method
from training.methods.cross_entropy import CrossEntropy
from training.methods.sclre import SCLRE


class SuperclassModel(nn.Module):
    """Pixels to losses, and pixels to answers."""

    def __init__(
        self, normalise: Normalise, backbone: nn.Module, head: nn.Module, precision: str
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = head
        self._precision = precision
        self._frozen: list[nn.Module] = []

    @property
    def method(self) -> Method:
        """The head, as the protocol that it follows."""
        return cast(Method, self.head)

    def freeze(self, groups: int) -> None:
        """Keep the first parts of the backbone, and their BatchNorm statistics, as they are."""
        self._frozen = cast(Any, self.backbone).groups()[:groups]
        for group in self._frozen:
            group.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for group in self._frozen:
            group.eval()
        return self

    def features(self, pixels: Tensor) -> Tensor:
        """uint8 or float [n, H, W, 3] in 0..255 to float32 [n, D]."""
        images = self.normalise(pixels)
        mixed = self._precision == "bf16"
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=mixed):
            pooled: Tensor = self.backbone(images)
        return pooled.float()

    def losses(self, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars by name; `loss` is minimised."""
        return self.method.losses(self.features(pixels), labels)

    def answer(self, pixels: Tensor, context: Context = "bank") -> Answer:
        """What the model says of n photos."""
        return self.method.answer(self.features(pixels), context)

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """As the exported graph computes: float32 throughout."""
        before, self._precision = self._precision, "fp32"
        try:
            yield
        finally:
            self._precision = before


def build_model(
    config: Config, superclasses: int, *, pretrained: bool | None = None
) -> SuperclassModel:
    """The model of a record.

    Args:
        config: the record.
        superclasses: K.
        pretrained: False where weights are about to be loaded anyway.

    Raises:
        ConfigError: for parts that do not go together.
    """
    spec = config.backbone
    load = spec.pretrained if pretrained is None else pretrained and spec.pretrained
    backbone, width, constants = build_backbone(
        spec.name, stem=spec.stem, pretrained=load, drop_path=spec.drop_path
    )
    try:
        head = _build_head(config, width, superclasses)
    except ValueError as error:
        raise ConfigError(f"{config.name}: {error}") from error
    model = SuperclassModel(Normalise(constants), backbone, head, config.train.precision)
    groups = len(cast(Any, backbone).groups())
    if spec.frozen_groups > groups:
        raise ConfigError(
            f"backbone.frozen_groups: {spec.name} has {groups} groups, got {spec.frozen_groups}"
        )
    model.freeze(spec.frozen_groups)
    return model


def _build_head(config: Config, width: int, superclasses: int) -> nn.Module:
    smoothing = config.train.label_smoothing
    if config.method == "cross_entropy":
        return CrossEntropy(width, superclasses, smoothing)
    if config.bank.size < superclasses:
        raise ConfigError(
            f"bank.size: expected an item for each of {superclasses} superclasses at least, got "
            f"{config.bank.size}"
        )
    return SCLRE(width, superclasses, config.sclre, smoothing, config.seed)
