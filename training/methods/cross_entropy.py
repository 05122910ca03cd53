"""The baseline: a linear classifier on the backbone's features."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import CrossEntropyConfig
from training.methods import Answer, Context


class CrossEntropy(nn.Module):
    """Photos never see each other here, so every context gives the same answer.

    Dropout and mixup (Zhang et al., ICLR 2018), where a record asks for them, are of features. They
    are drawn from what torch was last seeded with, so that each step has to be seeded anew: a
    resumed run then draws the same, and so does every process, each of which has the whole batch.
    """

    has_bank = False
    views = 1

    def __init__(
        self,
        features: int,
        superclasses: int,
        label_smoothing: float = 0.0,
        config: CrossEntropyConfig | None = None,
    ) -> None:
        super().__init__()
        self.classifier = nn.Linear(features, superclasses)
        self.label_smoothing = label_smoothing
        config = config or CrossEntropyConfig()
        self.dropout, self.mixup = config.dropout, config.mixup

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        random = np.random.default_rng(torch.initial_seed())
        share, others = 1.0, labels
        if self.mixup:
            share = float(random.beta(self.mixup, self.mixup))
            order = torch.from_numpy(random.permutation(len(labels))).to(labels.device)
            features = share * features + (1.0 - share) * features[order]
            others = labels[order]
        if self.dropout:
            kept = torch.from_numpy(random.random(features.shape) >= self.dropout)
            features = features * kept.to(features.device) / (1.0 - self.dropout)
        logits = self.classifier(features)
        loss = self._loss(logits, labels)
        if self.mixup:
            loss = share * loss + (1.0 - share) * self._loss(logits, others)
        return {"loss": loss, "cross_entropy": loss.detach()}

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def answer(self, features: Tensor, context: Context) -> Answer:
        return Answer(self.classifier(features), F.normalize(features, dim=1))

    def represent(self, features: Tensor) -> Tensor:
        return features

    def fill_bank(self, features: Tensor, labels: Tensor) -> None:
        """There is no bank."""

    def resize_bank(self, size: int) -> None:
        """There is no bank."""
