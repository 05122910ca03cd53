"""How photos lie on the sphere while a method learns: what the paper's theory speaks of.

Alignment and uniformity are those of Wang and Isola (ICML 2020). Similarity of attention is
s(a1, a2) of SCLRE's Lemma 2 (CVPR 2023): how alike two photos of a superclass attend.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.methods import Answer

MOST = 2000  # photos whose pairs are all compared


def geometry(answer: Answer, labels: Tensor) -> dict[str, float]:
    """`alignment`, `uniformity` and, with a bank, the likeness of attention within and between.

    Args:
        answer: over n photos, in any context.
        labels: int64 [n], superclasses.
    """
    figures = {
        "alignment": 2.0 - 2.0 * mean_cosine(answer.embedding, labels, same=True),
        "uniformity": uniformity(answer.embedding),
    }
    if answer.bank_weights is not None:
        attention = F.normalize(answer.bank_weights, dim=1)
        figures["attention_similarity"] = mean_cosine(attention, labels, same=True)
        figures["attention_similarity_apart"] = mean_cosine(attention, labels, same=False)
    return figures


def mean_cosine(v: Tensor, labels: Tensor, *, same: bool) -> float:
    """Mean cosine over all pairs i != j of one superclass, or of different ones.

    Summed by superclass, because the sum over pairs of v_i . v_j is the square of the sum of v.

    Args:
        v: float [n, d], unit length; labels: int64 [n].

    Returns:
        The mean; not a number where there is no such pair.
    """
    present, place = labels.unique(return_inverse=True)
    v = v.double()
    sums = v.new_zeros(len(present), v.shape[1]).index_add(0, place, v)
    counts = torch.bincount(place).double()
    within = sums.square().sum() - v.square().sum()
    pairs = (counts * (counts - 1)).sum()
    if not same:
        within = sums.sum(dim=0).square().sum() - sums.square().sum()
        pairs = counts.sum().square() - counts.square().sum()
    return float(within / pairs) if pairs > 0 else math.nan


def uniformity(v: Tensor) -> float:
    """log of the mean over pairs of exp(-2 |v_i - v_j|^2); lower is more spread out.

    Args:
        v: float [n, d], unit length; of more than `MOST` photos, evenly chosen ones.
    """
    if len(v) < 2:
        return math.nan
    some = v[:: math.ceil(len(v) / MOST)].double()
    return float(torch.pdist(some).square().mul(-2.0).exp().mean().log())
