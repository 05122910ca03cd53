"""GEORGE (Sohoni et al., NeurIPS 2020): subclasses found by clustering, then group-DRO over them.

The first stage is a run of plain cross-entropy. Its features of the training photos are clustered
inside each superclass (`training.subclasses`), and the second stage, here, trains a new network for
the clusters that fare worst.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.methods.cross_entropy import CrossEntropy


class George(CrossEntropy):
    """Labels in training are cluster numbers: superclass times `most`, plus the cluster's place."""

    log_weights: Tensor

    def __init__(
        self,
        features: int,
        superclasses: int,
        most: int,
        step_size: float,
        label_smoothing: float = 0.0,
    ) -> None:
        """`most` clusters a superclass may have; `step_size` is group-DRO's."""
        super().__init__(features, superclasses, label_smoothing)
        self.most = most
        self.step_size = step_size
        self.register_buffer("log_weights", torch.zeros(superclasses * most))

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Group-DRO (Sagawa et al., ICLR 2020, algorithm 1) over the clusters in the batch."""
        present, place = labels.unique(return_inverse=True)
        logits = self.classifier(features)
        each = F.cross_entropy(
            logits, labels // self.most, reduction="none", label_smoothing=self.label_smoothing
        )
        counts = torch.bincount(place, minlength=len(present))
        group = torch.zeros_like(counts, dtype=each.dtype).index_add(0, place, each) / counts
        with torch.no_grad():
            self.log_weights[present] += self.step_size * group
            weights = self.log_weights[present].softmax(dim=0)
        loss = (weights * group).sum()
        return {"loss": loss, "cross_entropy": each.mean().detach(), "worst": group.max().detach()}
