"""Matching: attention by likeness to a bank of all training photos, and nothing else.

What SCLRE's bank mode comes to when its attention is made sharp: a photo gives each bank item the
weight exp(cosine / T), and its superclasses are the sums of those weights (Matching Networks,
Vinyals et al., NeurIPS 2016, with one support set for all). The items with the most weight decide,
and one that joins the bank counts at once. Likeness is measured on the backbone's standardised
features, of which the principal components are kept.

With a background, pictures of what is of no superclass, it tells better what is foreign to the
bank; those take no part in the answer.

With a sorting guide's words a photo attends to itself as well, as in SCLRE: as much as to an item
of a set likeness, and what it says of itself is what the guide says of things that look so. That
decides where no item is like the photo. The likeness is meant for a bank of `LIKE_ITEMS`: one of a
tenth of the items has a tenth of their weight around any photo, and the photo a tenth of its own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.background import Background, familiarity
from training.config import MatchingConfig
from training.guide import Guide, Said
from training.losses import NEVER
from training.methods import Answer, Context

LIKE_ITEMS = 5136  # of refuse/4, with which `like_words` was chosen
LEAST = 1e-9  # of a superclass that gets no weight at all


class Matching(nn.Module):
    """The head over features [n, D]; it has no weights but the temperature."""

    has_bank = True
    views = 1
    mean: Tensor
    components: Tensor
    bank_keys: Tensor
    bank_values: Tensor

    def __init__(self, features: int, superclasses: int, config: MatchingConfig) -> None:
        super().__init__()
        self.superclasses = superclasses
        self.like_words = config.like_words
        self.guide = Guide(superclasses=superclasses) if config.words is not None else None
        width = min(config.width, features)
        self.background = Background(width)
        self.log_temperature = nn.Parameter(torch.tensor([math.log(config.temperature)]))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("components", torch.eye(features, width))
        self.register_buffer("bank_keys", torch.empty(0, width))
        self.register_buffer("bank_values", torch.empty(0, superclasses))

    def losses(self, features: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """How unlikely each photo's superclass is by the other photos of the batch.

        Neighbourhood components analysis: Goldberger et al., NeurIPS 2004.
        """
        z = F.normalize(F.batch_norm(features, None, None, training=True), dim=1)
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        likeness = (z @ z.T / self.log_temperature.exp()).masked_fill(itself, NEVER)
        own = likeness.masked_fill(labels[:, None] != labels[None, :], NEVER)
        loss = (likeness.logsumexp(dim=1) - own.logsumexp(dim=1)).mean()
        return {"loss": loss, "temperature": self.log_temperature.detach().exp().squeeze()}

    def answer(self, features: Tensor, context: Context) -> Answer:
        """By the bank; in the batch protocol by the bank too; alone by words, or else all equal."""
        if context == "lone":
            z = self.represent(features)
            if self.guide is not None:
                return Answer(self.guide(features).probabilities.log(), z)
            return Answer(z.new_zeros(len(z), self.superclasses), z)
        return self.answer_from(features, self.bank_keys, self.bank_values)

    def answer_from(
        self,
        features: Tensor,
        bank_keys: Tensor,
        bank_values: Tensor,
        background_keys: Tensor | None = None,
    ) -> Answer:
        """Answers of features [n, D] by keys [M, width] of unit length and values [M, K].

        Args:
            background_keys: [B, width], of unit length; its own by default.
        """
        z = self.represent(features)
        temperature = self.log_temperature.exp()
        cosines = z @ bank_keys.T
        scores = cosines / temperature
        others = self.background.keys if background_keys is None else background_keys
        familiar = familiarity(cosines, z @ others.T, len(self.background.keys))
        if self.guide is None:
            weights = scores.softmax(dim=1)
            logits = (weights @ bank_values).clamp(min=LEAST).log()
            return Answer(logits, z, weights, torch.zeros_like(z[:, 0]), familiar)
        said: Said = self.guide(features)
        itself = (self.like_words / temperature + self._size).expand(z.shape[0], 1)
        every = torch.cat([scores, itself], dim=1).softmax(dim=1)
        weights, own = every[:, :-1], every[:, -1:]
        mass = weights @ bank_values + own * said.probabilities
        logits = mass.clamp(min=LEAST).log()
        return Answer(logits, z, weights, own[:, 0], familiar, own * said.things)

    @property
    def own_log_weight(self) -> float:
        """What a photo gives to itself, as `log_weights` has it of the bank."""
        temperature = float(self.log_temperature.detach().exp())
        return (self.like_words - 1.0) / temperature + self._size

    @property
    def _size(self) -> float:
        return math.log(max(1, len(self.bank_keys)) / LIKE_ITEMS)

    @torch.no_grad()
    def log_weights(self, features: Tensor) -> Tensor:
        """log of the sum of exp((cosine - 1) / T) over each superclass's items: [n, K]."""
        scores = (self.represent(features) @ self.bank_keys.T - 1.0) / self.log_temperature.exp()
        items = self.bank_values.argmax(dim=1)
        each = [scores[:, items == k].logsumexp(dim=1) for k in range(self.superclasses)]
        return torch.stack(each, dim=1)

    def represent(self, features: Tensor) -> Tensor:
        z: Tensor = F.normalize((features - self.mean) @ self.components, dim=1)
        return z

    @torch.no_grad()
    def fill_bank(self, features: Tensor, labels: Tensor) -> None:
        """Standardise by these photos and keep their principal components, then remember them."""
        x = features.double()
        self.mean = features.mean(dim=0)
        deviation = x.std(dim=0, correction=0) + 1e-3
        standard = (x - x.mean(dim=0)) / deviation
        # eigh sorts upwards; the last are the directions of most variance.
        directions = torch.linalg.eigh(standard.T @ standard).eigenvectors.flip(1)
        kept = directions[:, : self.components.shape[1]]
        self.components = (kept / deviation[:, None]).to(features.dtype)
        self.bank_keys = self.represent(features)
        self.bank_values = F.one_hot(labels, self.superclasses).to(features.dtype)
        if self.guide is not None:
            self.guide.fit(features, labels)

    @torch.no_grad()
    def fill_background(self, features: Tensor) -> None:
        """Make pictures with these features [B, D] the background; after `fill_bank`."""
        self.background.keys = self.represent(features)

    def resize_bank(self, size: int) -> None:
        self.bank_keys = self.bank_keys.new_zeros(size, self.bank_keys.shape[1])
        self.bank_values = self.bank_values.new_zeros(size, self.bank_values.shape[1])
