"""What a sorting guide says in words, by way of ImageNet's classes.

A network that was trained on ImageNet still knows what its thousand classes look like. What a class
is called predicts its classifier, and so does the name of anything else, such as "orange peel",
though no class is called that. A guide that names the things of each bin then has a bin for a photo
that no training photo resembles (zero-shot learning from text: Elhoseiny et al., ICCV 2013). It is
TOML:

    [superclasses]
    hazardous = ["rechargeable battery", "paint can"]
    organic = ["orange peel"]
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training import shipped
from training.backbones.efficientnet_lite import pretrained_classifier
from training.backbones.joined import JOINED
from training.bank import Indices
from training.errors import DataError
from training.text import embed

WORDS = Path(__file__).parent / "data" / "words"
RIDGE = 0.01  # of 0.003 to 0.1 on refuse-tune, where it hardly matters
LOOKS_T = 0.03  # of 0.01 to 0.06 on refuse-tune, by two guides
EVEN = 0.1  # share of a superclass's mean, added: no bin is ruled out by words alone
# A bank item of this cosine weighs as much as the words: of 0.55 to 0.75 on refuse-tune.
LIKE_WORDS = 0.65


@dataclass(frozen=True)
class Words:
    """A guide's things: float32 [n, 384] their names as vectors, int64 [n] their superclasses."""

    text: str
    things: tuple[str, ...]
    vectors: Tensor
    superclass: Tensor


def read_words(reference: str, superclasses: tuple[str, ...]) -> Words:
    """Read a words file, or one under `training/data/words` by its name.

    Raises:
        DataError: where there is none, it is not of the documented form, or it has other bins.
        ConfigError: where the language model is not installed.
    """
    file = shipped.find(reference, WORDS, "a words file", DataError)
    table = shipped.read(file, DataError).get("superclasses")
    if not isinstance(table, dict):
        raise DataError(f"{file}: expected a table [superclasses], got {table!r}")
    if set(table) != set(superclasses):
        raise DataError(
            f"{file}: expected the superclasses {', '.join(superclasses)}, got {', '.join(table)}"
        )
    for name, things in table.items():
        if not (isinstance(things, list) and things and all(map(_is_name, things))):
            raise DataError(
                f'{file}: expected names such as "paint can" for {name}, got {things!r}'
            )
    things = tuple(thing for name in superclasses for thing in table[name])
    superclass = [k for k, name in enumerate(superclasses) for _ in table[name]]
    text = file.read_text(encoding="utf-8")
    return Words(text, things, embed(things), torch.tensor(superclass))


def _is_name(thing: object) -> bool:
    return isinstance(thing, str) and bool(thing.strip())


class Guide:
    """What a backbone's features look like in a guide's words, beside the train photos."""

    def __init__(self, words: Words, backbone: str, known: Tensor, labels: Indices) -> None:
        """known: float32 [n, D], the backbone's features of the train photos, as they are.

        Each superclass of `labels`, int64 [n], counts alike in what photos usually look like.

        Raises:
            ConfigError: for a backbone whose ImageNet classifier is not at hand.
        """
        self._members = [words.superclass == k for k in range(int(words.superclass.max()) + 1)]
        classifiers = [pretrained_classifier(part)[0] for part in JOINED.get(backbone, (backbone,))]
        by_names = _by_names(words.vectors)
        self._looks = [
            F.normalize(by_names @ (weight - weight.mean(dim=0)), dim=1) for weight in classifiers
        ]
        self._usual_likeness = _mean_of_each(self._likeness(known), labels)
        self._usual = _mean_of_each(self._said(known), labels)

    def __call__(self, features: Tensor) -> Tensor:
        """float32 [n, D] to probabilities [n, K]; a superclass often named counts for less."""
        said = self._said(features) / self._usual + EVEN
        return said / said.sum(dim=1, keepdim=True)

    def _said(self, features: Tensor) -> Tensor:
        more = (self._likeness(features) - self._usual_likeness) / LOOKS_T
        each = [more[:, m].logsumexp(dim=1) - math.log(int(m.sum())) for m in self._members]
        return torch.stack(each, dim=1).softmax(dim=1)

    def _likeness(self, features: Tensor) -> Tensor:
        """Cosine to what each thing should look like, [n, things]; the mean of the networks."""
        parts = features.split([looks.shape[1] for looks in self._looks], dim=1)
        each = [F.normalize(x, dim=1) @ y.T for x, y in zip(parts, self._looks, strict=True)]
        return torch.stack(each).mean(dim=0)


def with_words(log_weights: Tensor, temperature: float, words: Tensor) -> Tensor:
    """Matching that falls back on words where no bank item is like the photo.

    Args:
        log_weights: float [n, K], the log of the sum of exp((cosine - 1) / T) over the items of
            each superclass.
        temperature: T.
        words: float [n, K], probabilities.

    Returns:
        Probabilities [n, K].
    """
    back = words.log() + (LIKE_WORDS - 1.0) / temperature
    return torch.logaddexp(log_weights, back).softmax(dim=1)


def doubted(probabilities: Tensor, likeness: Tensor) -> Tensor:
    """The less a photo is like the nearest bank item, the more even: [n, K].

    Args:
        probabilities: float [n, K].
        likeness: float [n], cosine to the nearest bank item; its square is the share that stays.
    """
    stays = likeness.clamp(min=0.0)[:, None] ** 2
    return stays * probabilities + (1.0 - stays) / probabilities.shape[1]


def blended(probabilities: Tensor, words: Tensor) -> Tensor:
    """A trained head's probabilities [n, K] and the words', multiplied: also [n, K]."""
    return (probabilities.clamp(min=math.exp(-30.0)).log() + words.log()).softmax(dim=1)


def _by_names(things: Tensor) -> Tensor:
    """Vectors [n, 384] as sums of ImageNet's classes, by ridge regression: float32 [n, 1000]."""
    classes = _classes()
    centre = classes.mean(dim=0)
    known, asked = (classes - centre).double(), (things - centre).double()
    ridge = RIDGE * torch.eye(known.shape[1], dtype=known.dtype)
    return (asked @ torch.linalg.solve(known.T @ known + ridge, known.T)).float()


@functools.cache
def _classes() -> Tensor:
    """What WordNet first calls ImageNet's classes, in its classifiers' order: [1000, 384]."""
    names = (WORDS / "imagenet.txt").read_text(encoding="utf-8").splitlines()
    return embed(names)


def _mean_of_each(values: Tensor, labels: Indices) -> Tensor:
    """The mean over superclasses of their means: [n, m] to [m]."""
    kinds = torch.from_numpy(labels)
    return torch.stack([values[kinds == k].mean(dim=0) for k in kinds.unique()]).mean(dim=0)
