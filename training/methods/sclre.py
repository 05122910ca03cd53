"""SCLRE (Gan et al., CVPR 2023): projection, cross-instance attention, two adjustments, classifier.

z = g(h), v = CIA(z) / |CIA(z)|, logits = c(v), and
L = alpha * contrastive + (1 - alpha) * cross-entropy + target_weight * target.
Two departures from the reference code: its classifier, four linear layers with nothing between
them, is the one linear layer that they amount to; and answers are given in bank mode.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.attention import CrossInstanceAttention
from training.config import SclreConfig
from training.losses import contrastive_adjustment, target_adjustment
from training.methods import Answer, Context
from training.targets import anchors, reference_anchors

ANCHORS = {"simplex": anchors, "reference": reference_anchors}


class SCLRE(nn.Module):
    """The head over features [n, D]; runs in float32 whatever precision the backbone has.

    Without attention (an ablation) v = z / |z|, and there is no bank.
    """

    views = 1
    anchors: Tensor
    bank_keys: Tensor
    bank_values: Tensor

    def __init__(
        self,
        features: int,
        superclasses: int,
        config: SclreConfig,
        label_smoothing: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.label_smoothing = label_smoothing
        self.projection = nn.Sequential(
            nn.Linear(features, config.hidden, bias=False),
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.width),
        )
        self.has_bank = config.attention
        if config.attention:
            self.attention = CrossInstanceAttention(
                config.width, config.heads, config.key_width, config.width, config.sharpness
            )
        self.classifier = nn.Linear(config.width, superclasses)
        preset = ANCHORS[config.anchors](
            superclasses, config.width, temperature=config.temperature, seed=seed
        )
        self.register_buffer("anchors", preset)
        self.register_buffer("bank_keys", torch.empty(0, config.key_width))
        self.register_buffer("bank_values", torch.empty(0, config.width))

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        c = self.config
        z = self.projection(features)
        v = F.normalize(self.attention(z) if self.has_bank else z, dim=1)
        contrastive = contrastive_adjustment(v, labels, c.temperature, c.contrastive_mean)
        cross_entropy = F.cross_entropy(
            self.classifier(v), labels, label_smoothing=self.label_smoothing
        )
        target = target_adjustment(v, labels, self.anchors, c.temperature)
        loss = c.alpha * contrastive + (1 - c.alpha) * cross_entropy + c.target_weight * target
        parts = {"contrastive": contrastive, "cross_entropy": cross_entropy, "target": target}
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}}

    def answer(self, features: Tensor, context: Context) -> Answer:
        z = self.projection(features)
        if not self.has_bank:
            v = F.normalize(z, dim=1)
            return Answer(self.classifier(v), v)
        if context == "bank":
            return self._attend(z, self.bank_keys, self.bank_values)
        # Alone, a photo gives all its attention to itself, and gets its own value back.
        out = self.attention(z) if context == "batch" else self.attention.value(z)
        v = F.normalize(out, dim=1)
        return Answer(self.classifier(v), v)

    def answer_from(self, features: Tensor, bank_keys: Tensor, bank_values: Tensor) -> Answer:
        """Answers of features [n, D] by keys [M, key width], values [M, width] and themselves."""
        return self._attend(self.projection(features), bank_keys, bank_values)

    def _attend(self, z: Tensor, bank_keys: Tensor, bank_values: Tensor) -> Answer:
        got = self.attention.attend(z, bank_keys, bank_values)
        v = F.normalize(got.out, dim=1)
        return Answer(self.classifier(v), v, got.bank_weights, got.self_weight)

    def represent(self, features: Tensor) -> Tensor:
        z: Tensor = self.projection(features)
        return z

    @torch.no_grad()
    def fill_bank(self, features: Tensor, labels: Tensor | None = None) -> None:
        if not self.has_bank:
            return
        self.bank_keys, self.bank_values = self.attention.remember(self.projection(features))

    def resize_bank(self, size: int) -> None:
        self.bank_keys = self.bank_keys.new_zeros(size, self.bank_keys.shape[1])
        self.bank_values = self.bank_values.new_zeros(size, self.bank_values.shape[1])
