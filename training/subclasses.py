"""Subclasses that nobody labelled, found by clustering the features inside each superclass.

GEORGE's second step (Sohoni et al., NeurIPS 2020, section 4.2): how many clusters a superclass has
is the number at which their mean silhouette is largest. Where the paper reduces dimensions by UMAP,
principal components are taken here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from service.preprocess import Pixels
from training.checkpoint import SUBCLASSES, load_model
from training.config import Config
from training.data.photos import PhotoSet
from training.errors import RunError
from training.predict import extract_features

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

COMPONENTS = 32
JUDGED = 2000  # photos of a superclass whose silhouette is taken: it compares all pairs
STARTS = 3


def find_subclasses(features: Floats, labels: Indices, most: int, seed: int = 0) -> Indices:
    """Number of each photo's cluster: its superclass times `most`, plus its place inside.

    Args:
        features: float32 [n, D].
        labels: int64 [n], superclasses.
        most: clusters of a superclass; a superclass of two photos or fewer is one.
        seed: of k-means and of the photos that are judged by.

    Returns:
        int64 [n].
    """
    found = labels * most
    for superclass in np.unique(labels):
        members = np.flatnonzero(labels == superclass)
        found[members] += _clusters(features[members], most, seed)
    return found


def first_stage_subclasses(
    config: Config, data: PhotoSet, pixels: Pixels, labels: Indices, out: Path, device: str
) -> Indices:
    """GEORGE's clusters of the train photos, by the features of its first stage.

    They are kept in the run's folder, so that a run which is resumed has the same ones.

    Args:
        config: with `george.first_stage`.
        pixels: uint8 [n, H, W, 3], as the first stage would be asked.
        labels: int64 [n], superclasses.

    Returns:
        int64 [n], numbered as by `find_subclasses`.

    Raises:
        RunError: where there is no first stage, or it knows other superclasses.
    """
    spec, file = config.george, out / SUBCLASSES
    if file.is_file():
        return np.asarray(np.load(file), dtype=np.int64)
    if spec.first_stage is None:
        raise RunError("george.first_stage: expected a finished run of cross_entropy, got none")
    model, state = load_model(Path(spec.first_stage))
    if tuple(state["superclasses"]) != data.superclasses:
        raise RunError(
            f"george.first_stage: {spec.first_stage} knows {state['superclasses']}, and the photos "
            f"are of {list(data.superclasses)}"
        )
    features = extract_features(model.to(device), pixels, device, label="first stage")
    found = find_subclasses(features.cpu().numpy(), labels, spec.most_clusters, config.seed)
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        np.save(stream, found)
    part.replace(file)
    return found


def _clusters(features: Floats, most: int, seed: int) -> Indices:
    best, chosen = -2.0, np.zeros(len(features), dtype=np.int64)
    if len(features) <= 2 or not np.ptp(features, axis=0).any():
        return chosen
    size = min(COMPONENTS, *features.shape)
    reduced = PCA(size, random_state=seed).fit_transform(features)
    some = np.random.default_rng(seed).permutation(len(reduced))[:JUDGED]
    for count in range(2, min(most, len(features) - 1) + 1):
        means = MiniBatchKMeans(count, n_init=STARTS, random_state=seed)
        places = means.fit_predict(reduced).astype(np.int64)
        if not 1 < len(np.unique(places[some])) < len(some):  # where a silhouette has no meaning
            continue
        score = silhouette_score(reduced[some], places[some])
        if score > best:
            best, chosen = score, places
    return chosen
