"""Votes of train photos on features, without any training: what a trained head has to beat."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.guide import Guide, with_words
from training.outcome import Array
from training.words import blended, doubted

NEIGHBOURS = 50
PIECE = 1024  # photos that are compared with all others at once
KERNEL_T = 0.03  # of 0.03, 0.1 and 0.3 on refuse-tune
WORDED_KERNEL_T = 0.05  # of 0.03 to 0.08 on refuse-tune, beside words
# A bank item of this cosine weighs as much as the words: of 0.55 to 0.75 on refuse-tune.
LIKE_WORDS = 0.65

WORDS = "words"
AND_WORDS = f" and {WORDS}"
KERNEL_AND_WORDS = f"kernel{AND_WORDS}"
WORDED_VOTES = (WORDS, KERNEL_AND_WORDS)

Predict = Callable[[Tensor], Array]
"""Features [n, D] to probabilities [n, K]."""


@dataclass(frozen=True)
class Asked:
    """One fold: features [n, D] and superclasses [n] of what is trained on and what is asked."""

    train: tuple[Tensor, Array]
    unseen: tuple[Tensor, Array]
    val: tuple[Tensor, Array]
    seen: tuple[Tensor, Array]
    mean: Tensor
    deviation: Tensor

    def as_they_are(self, standardised: Tensor) -> Tensor:
        """Features before they were standardised by the train photos."""
        return standardised * self.deviation + self.mean


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
    log_weights = _log_weights(known, labels, superclasses, KERNEL_T)
    sizes = torch.from_numpy(np.bincount(labels, minlength=superclasses)).clamp(min=1).double()
    return lambda x: np.asarray((log_weights(x) - sizes.log()).softmax(dim=1).numpy())


def _log_weights(
    known: Tensor, labels: Array, superclasses: int, temperature: float
) -> Callable[[Tensor], Tensor]:
    """As `Matching.log_weights`, with all features: float64 [n, K]."""
    known = F.normalize(known, dim=1)
    members = [torch.from_numpy(np.flatnonzero(labels == k)) for k in range(superclasses)]

    def some(x: Tensor) -> Tensor:
        scores = ((F.normalize(x, dim=1) @ known.T).double() - 1.0) / temperature
        return torch.stack([scores[:, m].logsumexp(dim=1) for m in members], dim=1)

    # In pieces: the likeness of all to all would fill the memory.
    return lambda x: torch.cat([some(piece) for piece in x.split(PIECE)])


VOTES: dict[str, Callable[[Tensor, Array, int], Predict]] = {
    "neighbours": _neighbours,
    "kernel": _kernel,
}


def vote(name: str, asked: Asked, superclasses: int, guide: Guide | None) -> Predict:
    """A row that nothing is trained for."""
    if guide is None or name in VOTES:
        return VOTES[name](*asked.train, superclasses)
    if name == WORDS:
        return lambda x: np.asarray(guide(asked.as_they_are(x)).probabilities.double().numpy())
    return _kernel_and_words(asked, superclasses, guide)


def _kernel_and_words(asked: Asked, superclasses: int, guide: Guide) -> Predict:
    """A softer kernel that falls back on words, and doubts what no train photo is like.

    Every train photo counts alike: a superclass of many needs words less.
    """
    log_weights = _log_weights(*asked.train, superclasses, WORDED_KERNEL_T)
    known = F.normalize(asked.train[0], dim=1)

    def predict(x: Tensor) -> Array:
        said = guide(asked.as_they_are(x)).probabilities.double()
        answer = with_words(log_weights(x), WORDED_KERNEL_T, said, LIKE_WORDS)
        nearest = [(F.normalize(piece, dim=1) @ known.T).amax(dim=1) for piece in x.split(PIECE)]
        return np.asarray(doubted(answer, torch.cat(nearest).double()).numpy())

    return predict


def add_words(predict: Predict, asked: Asked, guide: Guide) -> Predict:
    def both(x: Tensor) -> Array:
        said = guide(asked.as_they_are(x)).probabilities.double()
        return np.asarray(blended(torch.from_numpy(predict(x)), said).numpy())

    return both
