"""Embeddings on a plane: by t-SNE, and by UMAP where umap-learn is installed."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE

from service.extras import how_to_install
from training.outcome import Array

BY_TSNE, BY_UMAP = "t-SNE", "UMAP"
LEAST, MOST = 10, 2000  # photos that are worth it, and that are not too many: t-SNE takes a minute
PERPLEXITY, NEIGHBOURS = 30.0, 15  # the libraries' own; fewer where there are fewer photos
SEED = 0


def choose(places: Array) -> Array:
    """`MOST` of them at random, or all where there are fewer; the same ones each time."""
    return np.random.default_rng(SEED).permutation(places)[:MOST]


def project(embedding: Array) -> dict[str, Array]:
    """The same each time, and from the same start: the first two principal components.

    Args:
        embedding: float [n, E], of three photos or more.

    Returns:
        float32 [n, 2] by `BY_TSNE` and, where umap-learn is installed, by `BY_UMAP`; where it is
        not, a line on the terminal says so once.
    """
    perplexity = min(PERPLEXITY, (len(embedding) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=SEED)
    planes = {BY_TSNE: np.asarray(tsne.fit_transform(embedding))}
    if (umap := _import_umap()) is not None:
        neighbours = min(NEIGHBOURS, len(embedding) - 1)
        method = umap(n_neighbors=neighbours, init="pca", random_state=SEED, n_jobs=1)
        threads = torch.get_num_threads()
        with warnings.catch_warnings():  # they are for who writes programs
            warnings.simplefilter("ignore")
            planes[BY_UMAP] = np.asarray(method.fit_transform(embedding))
        torch.set_num_threads(threads)  # numba has taken all cores for OpenMP, whoever uses it
    return planes


@cache
def _import_umap() -> Any:
    """The class, or None; only here, since numba takes seconds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from umap import UMAP
    except ModuleNotFoundError as error:
        if error.name != "umap":
            raise
        print(f"UMAP pictures need umap-learn, which is not installed: {how_to_install('umap')}")
        return None
    return UMAP
