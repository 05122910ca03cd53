"""Ways to say how like a photo is to those that a model knows, compared by `not_refuse`.

Each takes embeddings [n, E] and probabilities [n, K] and gives float [n], higher for what is known.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from service.familiarity import Familiarity

Array = npt.NDArray[np.floating]
Statistic = Callable[[Array, Array], Array]
BOOTSTRAPS = 500
SERIES = re.compile(r"left|right|before|after|copy|[\W\d_]+|[-_][ld]$")


def statistics(
    items: Array, labels: npt.NDArray[np.int64], chosen_t: float
) -> dict[str, Statistic]:
    """By name, for a bank of items [M, E] with superclasses [M]; the chosen one is named so."""
    superclasses = np.unique(labels)
    means = np.stack([items[labels == k].mean(axis=0) for k in superclasses])
    within = np.linalg.inv(_covariance(items - means[np.searchsorted(superclasses, labels)]))
    overall, mean = np.linalg.inv(_covariance(items)), items.mean(axis=0)

    def nearest(count: int, last: bool = False) -> Statistic:
        def of(embedding: Array, _: Array) -> Array:
            cosines = np.sort(embedding @ items.T, axis=1)[:, -count:]
            return cosines[:, 0] if last else cosines.mean(axis=1)

        return of

    def density(temperature: float) -> Statistic:
        familiarity = Familiarity(items.astype(np.float32), temperature)
        return lambda embedding, _: familiarity.of(embedding.astype(np.float32))

    def mahalanobis(embedding: Array, _: Array) -> Array:
        return -np.min([_distance(embedding - one, within) for one in means], axis=0)

    def relative(embedding: Array, probabilities: Array) -> Array:
        return mahalanobis(embedding, probabilities) + _distance(embedding - mean, overall)

    return {
        "confidence (max softmax)": lambda _, probabilities: probabilities.max(axis=1),
        "negative entropy": lambda _, p: (p * np.log(np.maximum(p, 1e-12))).sum(axis=1),
        "nearest cosine": nearest(1),
        "mean of 5 nearest": nearest(5),
        "5th nearest": nearest(5, last=True),
        "mean of 50 nearest": nearest(50),
        **{f"log-mean-exp, T = {t}": density(t) for t in (0.03, 0.05, 0.2, 0.3)},
        f"log-mean-exp, T = {chosen_t} (chosen)": density(chosen_t),
        "Mahalanobis": mahalanobis,
        "relative Mahalanobis": relative,
        "mean of 5 nearest x confidence": lambda e, p: nearest(5)(e, p) * p.max(axis=1),
    }


def _covariance(centred: Array) -> Array:
    return np.asarray(np.cov(centred.T) + 1e-6 * np.eye(centred.shape[1]))


def _distance(centred: Array, inverse: Array) -> Array:
    return np.einsum("ij,jk,ik->i", centred, inverse, centred)


def auroc(known: Array, other: Array) -> float:
    """How often a known photo scores higher than another."""
    labels = np.r_[np.ones(len(known)), np.zeros(len(other))]
    return float(roc_auc_score(labels, np.r_[known, other]))


def false_positives(known: Array, other: Array, share: float = 0.95) -> float:
    """Share of others that pass where `share` of the known do."""
    return float((other >= np.quantile(known, 1.0 - share)).mean())


def source_of(name: str) -> str:
    """What a picture was taken from: names that differ by a number or a side are of one series."""
    return SERIES.sub("", name.rsplit(".", 1)[0].lower()) or name


def second_half(group: str, name: str) -> bool:
    """Whether a picture is reported, with all of its source; by the others is chosen."""
    return bool(hashlib.sha256(f"{group}:{source_of(name)}".encode()).digest()[0] % 2)


def interval(
    figure: Callable[[Array, Array], float], known: Array, other: Array, sources: list[str]
) -> tuple[float, float]:
    """95% of a figure over resampled known photos and resampled sources of the others."""
    random = np.random.default_rng(0)
    names, place = np.unique(sources, return_inverse=True)
    rows = [np.flatnonzero(place == i) for i in range(len(names))]
    figures = []
    for _ in range(BOOTSTRAPS):
        drawn = np.concatenate([rows[i] for i in random.integers(0, len(names), len(names))])
        figures.append(figure(random.choice(known, len(known)), other[drawn]))
    low, high = np.quantile(figures, [0.025, 0.975])
    return float(low), float(high)
