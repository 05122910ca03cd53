"""SupCon and SimCLR: features learned by comparing views, with a linear classifier beside them.

The usual protocol learns the features first and a linear classifier on them afterwards. Here the
classifier learns at the same time, from features through which its gradient does not pass, so that
it has no part in them either, and every method has one run, one budget and one way to be evaluated.
To fine-tune what a run has learned, name it in another record's `backbone.weights`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import ContrastiveConfig
from training.losses import supervised_contrastive
from training.methods.cross_entropy import CrossEntropy

Positives = Literal["superclass", "photo"]


class Contrastive(CrossEntropy):
    """Answers are the linear classifier's; `positives` says what is pulled together.

    superclass: SupCon. photo: SimCLR, the two views of one photo.
    """

    views = 2

    def __init__(
        self,
        features: int,
        superclasses: int,
        config: ContrastiveConfig,
        positives: Positives,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(features, superclasses, label_smoothing)
        self.config = config
        self.positives = positives
        self.projection = projection(features, config)

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        z = F.normalize(self.projection(features), dim=1)
        photos = torch.arange(len(z) // self.views, device=z.device).repeat(self.views)
        same = labels if self.positives == "superclass" else photos
        contrastive = supervised_contrastive(z, same, self.config.temperature)
        return self._beside(contrastive, features, labels)

    def _beside(self, contrastive: Tensor, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The contrastive loss and the classifier's, which share no parameter."""
        linear = super().losses(features.detach(), labels)
        loss = contrastive + linear["loss"]
        return {**linear, "loss": loss, "contrastive": contrastive.detach()}


def projection(features: int, config: ContrastiveConfig) -> nn.Sequential:
    """Two layers, as SimCLR, SupCon and MoCo v2 have them."""
    return nn.Sequential(
        nn.Linear(features, config.hidden), nn.ReLU(), nn.Linear(config.hidden, config.width)
    )
