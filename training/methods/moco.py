"""MoCo v2 (Chen et al., 2020): a second network that follows the first, and a queue of its answers.

One departure: the following network has its BatchNorm in evaluation mode, with statistics that
follow as its weights do (EMAN, Cai et al., CVPR 2021). Shuffling BatchNorm, which serves the same
end, needs several GPUs.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import ContrastiveConfig
from training.losses import momentum_contrast
from training.methods.contrastive import Contrastive


class MoCo(Contrastive):
    """The first view's features are the backbone's, the second's those of the one that follows."""

    queue: Tensor

    def __init__(
        self,
        features: int,
        superclasses: int,
        config: ContrastiveConfig,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(features, superclasses, config, "photo", label_smoothing)
        self.momentum = config.momentum
        self.slow_projection = copy.deepcopy(self.projection).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(config.queue, config.width), dim=1))

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """features [2n, D]: n of the backbone, then n of the one that follows it."""
        fast, slow = features.chunk(2)
        with torch.no_grad():
            follow(self.slow_projection, self.projection, self.momentum)
            keys = F.normalize(self.slow_projection(slow), dim=1)
        queries = F.normalize(self.projection(fast), dim=1)
        # A copy, because the queue moves on before the gradient is taken.
        contrast = momentum_contrast(queries, keys, self.queue.clone(), self.config.temperature)
        self.queue = torch.cat([keys, self.queue])[: len(self.queue)]
        return self._beside(contrast, fast, labels[: len(fast)])


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Move the weights and statistics of one network towards another of the same shape."""
    theirs = fast.state_dict()
    for name, mine in slow.state_dict().items():
        if mine.is_floating_point():
            mine.lerp_(theirs[name], 1.0 - momentum)
        else:
            mine.copy_(theirs[name])
