"""Losses: SCLRE's two on the sphere (CVPR 2023, section 3.3), and those it is compared with."""

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


def supervised_contrastive(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """SupCon (Khosla et al., NeurIPS 2020, the loss with the sum outside the logarithm).

    For each photo, the mean over its positives p of -log( e^(s_ip/T) / sum over all a != i of
    e^(s_ia/T) ), then the mean over the photos that have a positive. Where the label is the photo
    itself, and each photo comes twice, this is SimCLR's NT-Xent (Chen et al., ICML 2020).

    Args:
        z: float [n, d], unit length.
        labels: int64 [n]; photos of one label are each other's positives.
        temperature: T.

    Returns:
        A scalar; zero where no photo has a positive.
    """
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(itself, NEVER)
    positive = (labels[:, None] == labels[None, :]) & ~itself
    share = positive.to(z.dtype) / positive.sum(dim=1, keepdim=True).clamp(min=1)
    each = -(share * similarity.log_softmax(dim=1)).sum(dim=1)
    return each.sum() / positive.any(dim=1).sum().clamp(min=1)


def momentum_contrast(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE against a queue (MoCo: He et al., CVPR 2020): a scalar.

    The i-th query's positive is the i-th key; its negatives are the queue's.

    Args:
        queries, keys: float [n, d], unit length; queue: float [m, d], unit length.
        temperature: T.
    """
    own = (queries * keys).sum(dim=1, keepdim=True)
    scores = torch.cat([own, queries @ queue.T], dim=1) / temperature
    return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.int64))
