"""Votes of train photos on features, without any training: what a trained head has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.outcome import Array

NEIGHBOURS = 50
PIECE = 1024  # photos that are compared with all others at once
KERNEL_T = 0.03  # of 0.03, 0.1 and 0.3 on refuse-tune

Predict = Callable[[Tensor], Array]
"""Features [n, D] to probabilities [n, K]."""


def _neighbours(known: Tensor, labels: Array, superclasses: int) -> Predict:
    """A vote of the nearest train photos by cosine; those of a small superclass count more."""
    known = F.normalize(known, dim=1)
    weight = 1.0 / np.bincount(labels, minlength=superclasses)
    most = min(NEIGHBOURS, len(known))

    def nearest_of(x: Tensor) -> Tensor:
        return (F.normalize(x, dim=1) @ known.T).topk(most).indices

    def predict(x: Tensor) -> Array:
        nearest = torch.cat([nearest_of(piece) for piece in x.split(PIECE)])
        votes = np.zeros((len(x), superclasses))
        for k in range(superclasses):
            votes[:, k] = weight[k] * (labels[nearest.numpy()] == k).sum(axis=1)
        return np.asarray(votes / votes.sum(axis=1, keepdims=True))

    return predict


def _kernel(known: Tensor, labels: Array, superclasses: int) -> Predict:
    """A vote of all train photos, each by exp(cosine / T): sharp attention to a bank of them all.

    It is the mean of a superclass that counts, so that none counts for its size.
    """
    known = F.normalize(known, dim=1)
    members = [torch.from_numpy(np.flatnonzero(labels == k)) for k in range(superclasses)]

    def some(x: Tensor) -> Tensor:
        likeness = ((F.normalize(x, dim=1) @ known.T).double() - 1.0) / KERNEL_T
        means = [likeness[:, m].logsumexp(dim=1) - math.log(len(m)) for m in members]
        return torch.stack(means, dim=1).softmax(dim=1)

    # In pieces: the likeness of all to all would fill the memory.
    return lambda x: np.asarray(torch.cat([some(piece) for piece in x.split(PIECE)]).numpy())


VOTES: dict[str, Callable[[Tensor, Array, int], Predict]] = {
    "neighbours": _neighbours,
    "kernel": _kernel,
}
