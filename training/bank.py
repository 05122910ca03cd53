"""Which training photos become the frozen context bank: all, or some, by one of three rules.

The three take as many of each superclass. random: drawn at random. centroids: the real photos
nearest to k-means centres (one a centre).
herding: greedily, so that the mean of the chosen stays nearest to the mean of all (Welling, 2009,
as iCaRL uses it for exemplars).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from training.config import Config
from training.model import SuperclassModel

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def choose_bank(z: Floats, labels: Indices, size: int, selection: str, seed: int = 0) -> Indices:
    """Indices of at most `size` photos, as many of each superclass as there are, within one.

    Args:
        z: float32 [n, d], representations of the training photos.
        labels: int64 [n], superclasses.
        size: of the bank; superclasses with too few photos give all that they have.
        selection: `random`, `centroids` or `herding`; `all`, whatever the size.
        seed: of random and of k-means.

    Returns:
        int64 [at most size], superclass by superclass.
    """
    if selection == "all":
        return np.argsort(labels, kind="stable")
    rules = {"random": _random, "centroids": _centroids, "herding": _herding}
    superclasses = np.unique(labels)
    shares = np.full(len(superclasses), size // len(superclasses))
    shares[: size % len(superclasses)] += 1
    chosen = []
    for k, share in zip(superclasses, shares, strict=True):
        members = np.flatnonzero(labels == k)
        take = min(int(share), len(members))
        places = rules[selection](z[members], take, np.random.default_rng((seed, int(k))))
        chosen.append(members[places])
    return np.concatenate(chosen)


def fill_chosen_bank(
    model: SuperclassModel, features: Tensor, labels: Indices, config: Config
) -> Indices:
    """Choose a bank by the record's rule from features [n, D]; returns the rows chosen."""
    model.eval()
    with torch.no_grad():
        z = model.method.represent(features).cpu().numpy()
    rows = choose_bank(z, labels, config.bank.size, config.bank.selection, config.seed)
    chosen = torch.from_numpy(rows)
    model.method.fill_bank(
        features[chosen.to(features.device)], torch.from_numpy(labels)[chosen].to(features.device)
    )
    return rows


def _random(z: Floats, take: int, random: np.random.Generator) -> Indices:
    return np.sort(random.choice(len(z), take, replace=False))


def _centroids(z: Floats, take: int, random: np.random.Generator) -> Indices:
    if take == 0:
        return np.empty(0, dtype=np.int64)
    means = KMeans(take, n_init=1, random_state=int(random.integers(2**31))).fit(z)
    chosen: list[int] = []
    for centre in means.cluster_centers_:
        order = np.argsort(np.square(z - centre).sum(axis=1), kind="stable")
        chosen.append(next(int(i) for i in order if i not in chosen))
    return np.array(chosen, dtype=np.int64)


def _herding(z: Floats, take: int, random: np.random.Generator) -> Indices:
    mean = z.mean(axis=0)
    free = np.ones(len(z), dtype=bool)
    total = np.zeros_like(mean)
    chosen: list[int] = []
    for count in range(1, take + 1):
        distance = np.square(mean - (total + z) / count).sum(axis=1)
        best = int(np.argmin(np.where(free, distance, np.inf)))
        chosen.append(best)
        free[best] = False
        total += z[best]
    return np.array(chosen, dtype=np.int64)
