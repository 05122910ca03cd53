"""SCLRE's two losses on the sphere (CVPR 2023, section 3.3)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

NEVER = -1e9  # stands for minus infinity in a logsumexp whose gradient must stay finite


def contrastive_adjustment(
    v: Tensor, labels: Tensor, temperature: float, mean: Literal["pairs", "batch"] = "pairs"
) -> Tensor:
    """Pull the photos of a superclass together, against those of the others.

    Over all ordered pairs i != j of one superclass, with s the cosine similarity:
    -log( e^(s_ij/T) / (e^(s_ij/T) + sum over k of other superclasses of e^(s_ik/T)) ).
    Positives do not compete with each other, which is where this differs from SupCon.

    Args:
        v: float [n, d], unit length.
        labels: int64 [n].
        temperature: T.
        mean: the reference code divides the sum by 2n (`batch`), so that the term grows with the
            batch; dividing by the number of positive pairs (`pairs`) does not.

    Returns:
        A scalar; zero where the batch has no positive pair.
    """
    similarity = v @ v.T / temperature
    same = labels[:, None] == labels[None, :]
    negatives = similarity.masked_fill(same, NEVER).logsumexp(dim=1, keepdim=True)
    pairs = same & ~torch.eye(len(v), dtype=torch.bool, device=v.device)
    # -log(e^s / (e^s + e^neg)) = softplus(neg - s), which cannot overflow
    total = F.softplus(negatives - similarity).masked_fill(~pairs, 0.0).sum()
    count = 2 * len(v) if mean == "batch" else pairs.sum().clamp(min=1)
    return total / count


def target_adjustment(v: Tensor, labels: Tensor, anchors: Tensor, temperature: float) -> Tensor:
    """Pull each photo to the anchor of its superclass: a scalar.

    -1/n sum_i log( e^(v_i.t_yi/T) / sum_k e^(v_i.t_k/T) )

    Args:
        v: float [n, d], unit length; labels: int64 [n]; anchors: float [K, d], unit length.
    """
    return F.cross_entropy(v @ anchors.T / temperature, labels)
