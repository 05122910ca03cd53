"""What a sorting guide says in words, by way of ImageNet's classes.

A network that was trained on ImageNet still knows its thousand classes. Where a file says which of
them belong into which bin, a photo of a kind that no training photo resembles has a bin after all
(after ConSE: Norouzi et al., ICLR 2014). The file is TOML; each class is its number and its name.

    [superclasses]
    hazardous = ["720 pill bottle", "845 syringe"]
    organic = ["954 banana"]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training import shipped
from training.backbones.efficientnet_lite import pretrained_classifier
from training.errors import ConfigError, DataError

WORDS = Path(__file__).parent / "data" / "words"
CLASSES = 1000
EVEN = 0.3  # share of a superclass's mean, added: no bin is ruled out by words alone
# A bank item of this cosine weighs as much as the words: of 0.55 to 0.75 on refuse-tune.
LIKE_WORDS = 0.65


@dataclass(frozen=True)
class Words:
    """A words file for K superclasses: float32 [1000, K], each row a class's share of the bins."""

    text: str
    shares: Tensor


def read_words(reference: str, superclasses: tuple[str, ...]) -> Words:
    """Read a words file, or one under `training/data/words` by its name.

    Raises:
        DataError: where there is none, it is not of the documented form, or it has other bins.
    """
    file = shipped.find(reference, WORDS, "a words file", DataError)
    table = shipped.read(file, DataError).get("superclasses")
    if not isinstance(table, dict):
        raise DataError(f"{file}: expected a table [superclasses], got {table!r}")
    try:
        numbers = {name: [int(one.split()[0]) for one in words] for name, words in table.items()}
    except (AttributeError, ValueError, IndexError, TypeError) as error:
        raise DataError(f'{file}: expected classes such as "720 pill bottle": {error}') from error
    if set(numbers) != set(superclasses):
        raise DataError(
            f"{file}: expected the superclasses {', '.join(superclasses)}, got {', '.join(numbers)}"
        )
    shares = torch.zeros(CLASSES, len(superclasses))
    for k, name in enumerate(superclasses):
        for number in numbers[name]:
            if not 0 <= number < CLASSES:
                raise DataError(f"{file}: expected numbers below {CLASSES}, got {number} in {name}")
            shares[number, k] = 1.0
    each = shares / shares.sum(dim=1, keepdim=True).clamp(min=1.0)
    return Words(file.read_text(encoding="utf-8"), each)


class Guide:
    """A backbone's ImageNet classes read by a words file, relative to the train photos."""

    def __init__(self, words: Words, backbone: str, known: Tensor) -> None:
        """known: float32 [n, D], the backbone's features of the train photos, as they are.

        Raises:
            ConfigError: for a backbone whose ImageNet classifier is not at hand.
        """
        self._shares = words.shares
        self._weight, self._bias = pretrained_classifier(backbone)
        self._usual = self._said(known).mean(dim=0)
        if (self._usual == 0).any():
            raise ConfigError("expected words for every superclass, got none for some")

    def __call__(self, features: Tensor) -> Tensor:
        """float32 [n, D] to probabilities [n, K]; a superclass often named counts for less."""
        said = self._said(features) / self._usual + EVEN
        return said / said.sum(dim=1, keepdim=True)

    def _said(self, features: Tensor) -> Tensor:
        return (features @ self._weight.T + self._bias).softmax(dim=1) @ self._shares


def with_words(log_weights: Tensor, temperature: float, words: Tensor) -> Tensor:
    """Matching that falls back on words where no bank item is like the photo.

    Args:
        log_weights: float [n, K], as `Matching.log_weights` gives them.
        temperature: T.
        words: float [n, K], probabilities.

    Returns:
        Probabilities [n, K].
    """
    back = words.log() + (LIKE_WORDS - 1.0) / temperature
    return torch.logaddexp(log_weights, back).softmax(dim=1)


def blended(probabilities: Tensor, words: Tensor) -> Tensor:
    """A trained head's probabilities [n, K] and the words', multiplied: also [n, K]."""
    return (probabilities.clamp(min=math.exp(-30.0)).log() + words.log()).softmax(dim=1)
