"""From a labelled set to a site's thresholds: what manual sorting buys, and sets that cover.

Everything is measured on answers as they are served: through the ONNX file, by the site's rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from service.bundle import read_bundle
from service.classifier import Classifier
from service.doubts import open_doubts, own_limits
from service.results import Sorted, classification
from service.site_rules import Rules
from service.sorting import Sorter
from training.data.photos import PhotoSet
from training.data.store import open_split
from training.errors import ConfigError
from training.outcome import Array
from training.progress import track
from training.served_bank import new_to_bank

LEAST_PHOTOS = 30  # that a bin needs for a threshold of its own


@dataclass(frozen=True)
class Evidence:
    """What is known of n photos over a site's C choices, the last of which is `manual`.

    Attributes:
        probabilities: float64 [n, C], as an answer tells them.
        hazard: float64 [n].
        true: int64 [n], where each thing belongs by its label.
        doubted: bool [n], whether the photo is no ground to decide on.
    """

    split: str
    sorter: Sorter
    probabilities: Array
    hazard: Array
    true: Array
    doubted: Array

    def __len__(self) -> int:
        return len(self.true)

    @property
    def expected(self) -> Array:
        """float64 [n, C]: the expected cost of each choice."""
        return self.probabilities @ self.sorter.cost_matrix

    @property
    def best(self) -> Array:
        """int64 [n]: the bin of least expected cost."""
        return np.asarray(self.expected[:, :-1].argmin(axis=1))

    @property
    def of_best(self) -> Array:
        """float64 [n]: the probability of that bin."""
        return np.asarray(self.probabilities[np.arange(len(self)), self.best])

    @property
    def held(self) -> Array:
        """bool [n]: sent to a person whatever the thresholds are."""
        threshold = self.sorter.site.hazards.threshold
        hazardous = (self.hazard > 0.0) & (self.hazard >= threshold)
        by_rule = self.probabilities.argmax(axis=1) == self.probabilities.shape[1] - 1
        dear = self.expected[np.arange(len(self)), self.best] > self.expected[:, -1]
        return np.asarray(hazardous | by_rule | dear | self.doubted)

    def choices(self, thresholds: Array) -> Array:
        """int64 [n]: with these thresholds [C - 1] in place of the site's own."""
        unsure = self.of_best < thresholds[self.best]
        return np.where(self.held | unsure, self.probabilities.shape[1] - 1, self.best)


@dataclass(frozen=True)
class Policy:
    """What a choice for each photo comes to.

    Attributes:
        manual: share of the photos that a person sees.
        error_rate: of those that are sorted; NaN where none is.
        contamination: mean cost of the mistakes, in the site's units, over all photos.
        cost: the same, and what the people cost.
    """

    photos: int
    sorted: int
    wrong: int
    manual: float
    error_rate: float
    contamination: float
    cost: float


def gather(bundle_path: Path, rules: Rules, data: PhotoSet, split: str) -> Evidence:
    """Answer a split with a bundle by a site's rules, less the photos that the bank has.

    Raises:
        BundleError, SiteUnfit, SiteError: where they do not fit together.
        DataError: where the split has no photo, or none that the bank does not have.
    """
    bundle = read_bundle(bundle_path)
    manifest = bundle.manifest
    classifier = Classifier(bundle)
    sorter = rules.sorter(manifest)
    store = open_split(data, split, manifest.preprocessing)
    by = Sorted(rules, rules.site.languages[0])
    doubts = open_doubts(bundle, dict.fromkeys(own_limits(manifest)))
    told, embeddings = [], []
    with track(f"{bundle.id} on {split}", len(store.photos)) as advance:
        for index in range(len(store.photos)):
            pixels = np.ascontiguousarray(store.pixels[index : index + 1])
            answers = classifier.run(pixels)
            about = doubts.of(pixels[0], answers)
            told.append(classification(manifest, answers, None, by, about).sorting)
            embeddings.append(answers.embedding[0])
            advance(1)
    new = new_to_bank(bundle, store.photos, np.stack(embeddings), f"{sorter.site.site} on {split}")
    told = list(compress(told, new))
    photos = compress(store.photos, new)
    true = [sorter.place_of(photo.superclass, photo.subclass) for photo in photos]
    return Evidence(
        split=split,
        sorter=sorter,
        probabilities=np.array([list(one.probabilities.values()) for one in told if one]),
        hazard=np.array([one.hazard for one in told if one]),
        true=np.array([sorter.choices.index(place) for place in true]),
        doubted=np.array(["doubt" in one.reasons for one in told if one]),
    )


def assess(evidence: Evidence, choices: Array) -> Policy:
    """What these choices [n] come to."""
    sent = choices < evidence.probabilities.shape[1] - 1
    wrong = sent & (choices != evidence.true)
    costs = evidence.sorter.cost_matrix[evidence.true, choices]
    return Policy(
        photos=len(evidence),
        sorted=int(sent.sum()),
        wrong=int(wrong.sum()),
        manual=float(1.0 - sent.mean()),
        error_rate=float(wrong.sum() / sent.sum()) if sent.any() else math.nan,
        contamination=float(np.where(sent, costs, 0.0).mean()),
        cost=float(costs.mean()),
    )


def curve(evidence: Evidence) -> list[Policy]:
    """From everything sorted to nothing: the photos go to a person by what their bin may cost.

    What the rules send to a person in any case goes first.
    """
    risk = evidence.expected[np.arange(len(evidence)), evidence.best]
    order = np.argsort(risk + np.where(evidence.held, 1e9, 0.0), kind="stable")
    manual = evidence.probabilities.shape[1] - 1
    policies = []
    for kept in range(len(evidence), -1, -max(1, len(evidence) // 200)):
        choices = np.full(len(evidence), manual)
        choices[order[:kept]] = evidence.best[order[:kept]]
        policies.append(assess(evidence, choices))
    return policies


def fit_thresholds(evidence: Evidence, error_rate: float) -> Array:
    """For each bin the lowest threshold that keeps errors in it to a rate: float64 [C - 1].

    Of the photos that the site's other rules let pass. A bin with few photos takes the threshold
    that all bins together need, if that is higher than what its few say.
    """
    passing = ~evidence.held
    right = evidence.best == evidence.true
    pooled = lowest_threshold(evidence.of_best[passing], right[passing], error_rate)
    thresholds = np.zeros(evidence.probabilities.shape[1] - 1)
    for place in range(len(thresholds)):
        mine = passing & (evidence.best == place)
        own = lowest_threshold(evidence.of_best[mine], right[mine], error_rate)
        thresholds[place] = own if mine.sum() >= LEAST_PHOTOS else max(own, pooled)
    return thresholds


def lowest_threshold(values: Array, right: Array, error_rate: float) -> float:
    """The lowest of the values [n] from which on at most a share is not right [n].

    1 where there is none, so that only what is certain passes; 0 where there are no values at all.
    """
    if not len(values):
        return 0.0
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    risk = np.cumsum(~right[order]) / np.arange(1, len(order) + 1)
    last_of_ties = np.append(ranked[1:] < ranked[:-1], True)
    possible = np.flatnonzero((risk <= error_rate) & last_of_ties)
    return float(ranked[possible[-1]]) if len(possible) else 1.0


def fit_coverage(evidence: Evidence, level: float) -> float:
    """The least probability of a bin in a set that holds the right one in `level` of all cases.

    Split conformal prediction (Sadinle, Lei and Wasserman, "Least ambiguous set-valued
    classifiers", JASA 2019): sets of new photos that are drawn as these were hold their bin with
    at least that probability, whatever the model is worth.

    Raises:
        ConfigError: where there are too few photos for such a level.
    """
    scores = np.sort(1.0 - evidence.probabilities[np.arange(len(evidence)), evidence.true])
    rank = math.ceil((len(scores) + 1) * level)
    if rank > len(scores):
        least = math.ceil(level / (1.0 - level))
        raise ConfigError(
            f"a coverage of {level} needs {least} photos or more, and {evidence.split} has "
            f"{len(scores)}"
        )
    return float(1.0 - scores[rank - 1])


def covered(evidence: Evidence, least: float) -> tuple[float, float]:
    """The share of photos whose set holds the right choice, and the mean size of a set."""
    sets = evidence.probabilities >= least
    return float(sets[np.arange(len(evidence)), evidence.true].mean()), float(sets.sum(1).mean())


def own_thresholds(evidence: Evidence) -> Array:
    """Those of the site's file: float64 [C - 1]."""
    return np.array([one.threshold for one in evidence.sorter.site.bins.values()])
