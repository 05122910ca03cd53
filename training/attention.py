"""Cross-instance attention (CIA), SCLRE's representation enhancement, and its bank mode.

In the paper (CVPR 2023, section 3.2) the sequence that attention runs over is the batch: an answer
depends on whichever photos happen to be beside it. Served photos come alone, so here a photo can
also attend to a *frozen context bank* and itself, and to no other photo.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Attended:
    """What n photos got from the bank and themselves.

    Attributes:
        out: float [n, value width], before normalisation.
        bank_weights: float [n, M], attention given to each bank item, mean over heads.
        self_weight: float [n], attention given to itself, mean over heads.
    """

    out: Tensor
    bank_weights: Tensor
    self_weight: Tensor


class CrossInstanceAttention(nn.Module):
    """Multi-head attention without biases, residual or output projection.

    Q = z Wq, K = z Wk, V = z Wv; softmax(Q K^T / sqrt(key width / heads)) V, per head.

    With `sharpness` attention goes by likeness instead: softmax(sharpness cos(Q, K)) V, where each
    head learns its own sharpness and Wq and Wk begin as the same. As the paper has it attention
    begins nearly even, so that all photos of a batch get nearly the same output, and stays so.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        key_width: int,
        value_width: int,
        sharpness: float | None = None,
    ) -> None:
        """Widths are over all heads, and `heads` must divide both."""
        super().__init__()
        if key_width % heads or value_width % heads:
            raise ValueError(
                f"expected widths that {heads} heads divide, got {key_width} and {value_width}"
            )
        self.heads = heads
        self.query = nn.Linear(width, key_width, bias=False)
        self.key = nn.Linear(width, key_width, bias=False)
        self.value = nn.Linear(width, value_width, bias=False)
        self.scale = (key_width // heads) ** -0.5
        self.log_sharpness: nn.Parameter | None = None
        if sharpness is not None:
            self.scale = 1.0
            self.log_sharpness = nn.Parameter(torch.full((heads,), math.log(sharpness)))
            self.key.load_state_dict(self.query.state_dict())

    def forward(self, z: Tensor) -> Tensor:
        """Every photo attends to the whole batch: [n, width] to [n, value width]."""
        q, k, v = self._queries(z), self._keys(self.key(z)), self._split(self.value(z))
        scores = torch.einsum("nhd,mhd->hnm", q, k) * self.scale
        return torch.einsum("hnm,mhd->nhd", scores.softmax(dim=-1), v).flatten(1)

    def remember(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Keys [n, key width] and values [n, value width] that a bank stores for z [n, width]."""
        return self.key(z), self.value(z)

    def attend(self, z: Tensor, bank_keys: Tensor, bank_values: Tensor) -> Attended:
        """Every photo attends to the bank and to itself.

        Args:
            z: [n, width].
            bank_keys: [M, key width]; bank_values: [M, value width], from `remember`.
        """
        q, own_k, own_v = self._queries(z), self._keys(self.key(z)), self._split(self.value(z))
        bank_k, bank_v = self._keys(bank_keys), self._split(bank_values)
        to_bank = torch.einsum("nhd,mhd->nhm", q, bank_k) * self.scale
        to_self = (q * own_k).sum(dim=-1, keepdim=True) * self.scale
        weights = torch.cat([to_bank, to_self], dim=-1).softmax(dim=-1)
        bank_weights, self_weights = weights[..., :-1], weights[..., -1:]
        out = torch.einsum("nhm,mhd->nhd", bank_weights, bank_v) + self_weights * own_v
        return Attended(out.flatten(1), bank_weights.mean(dim=1), self_weights.mean(dim=(1, 2)))

    def _queries(self, z: Tensor) -> Tensor:
        q = self._split(self.query(z))
        if self.log_sharpness is None:
            return q
        return F.normalize(q, dim=-1) * self.log_sharpness.exp()[:, None]

    def _keys(self, keys: Tensor) -> Tensor:
        k = self._split(keys)
        return k if self.log_sharpness is None else F.normalize(k, dim=-1)

    def _split(self, x: Tensor) -> Tensor:
        """[n, width] to [n, heads, width / heads]."""
        return x.reshape(-1, self.heads, x.shape[1] // self.heads)
