"""A backbone and a method as one module over uint8 pixels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.backends import cudnn

from training.backbones import Normalise, build_backbone
from training.batchnorm import synchronise
from training.config import Config
from training.errors import ConfigError
from training.methods import Answer, Context, Method
from training.methods.contrastive import Contrastive
from training.methods.cross_entropy import CrossEntropy
from training.methods.george import George
from training.methods.matching import Matching
from training.methods.moco import MoCo, follow
from training.methods.sclre import SCLRE
from training.whole_batch import gather_views


class SuperclassModel(nn.Module):
    """Pixels to losses, and pixels to answers."""

    def __init__(
        self, normalise: Normalise, backbone: nn.Module, head: nn.Module, precision: str
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = head
        self.slow: nn.Module | None = None  # what follows the backbone, for MoCo
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
        for group in self._frozen if self.slow is None else (*self._frozen, self.slow):
            group.eval()
        return self

    def follow_backbone(self) -> None:
        """Have a second backbone that follows the first, for the second view of each photo."""
        self.slow = copy.deepcopy(self.backbone).requires_grad_(False)

    def features(self, pixels: Tensor) -> Tensor:
        """uint8 or float [n, H, W, 3] in 0..255 to float32 [n, D]."""
        return self._features(self.backbone, pixels)

    def losses(self, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scalars by name, for the views of a batch; `loss` is minimised.

        With several processes, pixels are of this one's share of the photos and labels of them all:
        the features are gathered, and the head computes the losses of the whole batch.
        """
        features = gather_views(self._features_of_views(pixels), self.method.views)
        return self.method.losses(features, labels)

    forward = losses  # what DistributedDataParallel calls

    def _features_of_views(self, pixels: Tensor) -> Tensor:
        if self.slow is None:
            return self.features(pixels)
        first, second = pixels.chunk(2)
        with torch.no_grad():
            follow(self.slow, self.backbone, cast(MoCo, self.head).momentum)
            keys = self._features(self.slow, second)
        return torch.cat([self.features(first), keys])

    def _features(self, backbone: nn.Module, pixels: Tensor) -> Tensor:
        images = self.normalise(pixels)
        mixed = self._precision == "bf16"
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=mixed):
            pooled: Tensor = backbone(images)
        return pooled.float()

    def answer(self, pixels: Tensor, context: Context = "bank") -> Answer:
        """What the model says of n photos."""
        return self.method.answer(self.features(pixels), context)

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """As the exported graph computes: float32 throughout.

        On a GPU as well, where torch otherwise has convolutions of float32 computed in TF32, which
        keeps 10 bits of 23.
        """
        before, self._precision = self._precision, "fp32"
        rounded, cudnn.allow_tf32 = cudnn.allow_tf32, False
        try:
            yield
        finally:
            self._precision, cudnn.allow_tf32 = before, rounded


def build_model(
    config: Config, superclasses: int, *, pretrained: bool | None = None
) -> SuperclassModel:
    """The model of a record.

    Args:
        config: the record; `checkpoint.begin_model` gives its `backbone.weights` as well.
        superclasses: K.
        pretrained: False where weights are about to be loaded anyway.

    Raises:
        ConfigError: for parts that do not go together.
    """
    spec = config.backbone
    load = spec.pretrained and spec.weights is None and pretrained is not False
    backbone, width, constants = build_backbone(
        spec.name, stem=spec.stem, pretrained=load, drop_path=spec.drop_path
    )
    if config.train.sync_batchnorm:
        synchronise(backbone)
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
    if config.method == "moco":
        model.follow_backbone()
    return model


def _build_head(config: Config, width: int, superclasses: int) -> nn.Module:
    smoothing = config.train.label_smoothing
    match config.method:
        case "cross_entropy":
            return CrossEntropy(width, superclasses, smoothing, config.cross_entropy)
        case "supcon":
            return Contrastive(width, superclasses, config.contrastive, "superclass", smoothing)
        case "simclr":
            return Contrastive(width, superclasses, config.contrastive, "photo", smoothing)
        case "moco":
            return MoCo(width, superclasses, config.contrastive, smoothing)
        case "matching":
            return Matching(width, superclasses, config.matching)
        case "george":
            spec = config.george
            return George(width, superclasses, spec.most_clusters, spec.step_size, smoothing)
    if config.sclre.attention and config.bank.size < superclasses:
        raise ConfigError(
            f"bank.size: expected an item for each of {superclasses} superclasses at least, got "
            f"{config.bank.size}"
        )
    return SCLRE(width, superclasses, config.sclre, smoothing, config.seed)
