"""The baseline: a linear classifier on the backbone's features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from training.methods import Answer, Context


class CrossEntropy(nn.Module):
    """Photos never see each other here, so every context gives the same answer."""

    has_bank = False
    views = 1

    def __init__(self, features: int, superclasses: int, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.classifier = nn.Linear(features, superclasses)
        self.label_smoothing = label_smoothing

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.classifier(features)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return {"loss": loss, "cross_entropy": loss.detach()}

    def answer(self, features: Tensor, context: Context) -> Answer:
        return Answer(self.classifier(features), F.normalize(features, dim=1))

    def represent(self, features: Tensor) -> Tensor:
        return features

    def fill_bank(self, features: Tensor, labels: Tensor) -> None:
        """There is no bank."""

    def resize_bank(self, size: int) -> None:
        """There is no bank."""
