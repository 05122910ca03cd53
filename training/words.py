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
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from training import shipped
from training.backbones.efficientnet_lite import pretrained_classifier
from training.backbones.joined import JOINED
from training.config import Config
from training.data.sampling import Indices
from training.errors import DataError
from training.guide import Guide
from training.methods.matching import Matching
from training.metrics import balanced_accuracy
from training.text import embed

WORDS = Path(__file__).parent / "data" / "words"
NEAR_GUESSING = 1 / 6  # of the way from guessing to being always right
RIDGE = 0.01  # of 0.003 to 0.1 on refuse-tune, where it hardly matters


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
    file = _file(reference)
    table = shipped.read(file, DataError).get("superclasses")
    if not isinstance(table, dict):
        raise DataError(f"{file}: expected a table [superclasses], got {table!r}")
    if set(table) != set(superclasses):
        raise DataError(
            f"{file}: expected things for each superclass of the data, {', '.join(superclasses)}, "
            f"and for no other, got {', '.join(table)}; name a guide of your own for other bins"
        )
    for name, things in table.items():
        if not (isinstance(things, list) and things and all(map(_is_name, things))):
            raise DataError(
                f'{file}: expected names such as "paint can" for {name}, got {things!r}'
            )
    for thing, count in Counter(thing for things in table.values() for thing in things).items():
        if count > 1:
            raise DataError(f"{file}: expected each thing once, got {thing!r} {count} times")
    things = tuple(thing for name in superclasses for thing in table[name])
    superclass = [k for k, name in enumerate(superclasses) for _ in table[name]]
    return Words(text_of(reference), things, embed(things), torch.tensor(superclass))


def text_of(reference: str) -> str:
    """What the words file says, by which two of the same name are told apart."""
    return _file(reference).read_text(encoding="utf-8")


def _file(reference: str) -> Path:
    return shipped.find(reference, WORDS, "a words file", DataError)


def _is_name(thing: object) -> bool:
    return isinstance(thing, str) and bool(thing.strip())


def make_guide(words: Words, backbone: str) -> Guide:
    """What a backbone's features are to be held against; `Guide.fit` says what is usual.

    Raises:
        ConfigError: for a backbone whose ImageNet classifier is not at hand.
    """
    classifiers = [pretrained_classifier(part)[0] for part in JOINED.get(backbone, (backbone,))]
    by_names = _by_names(words.vectors)
    looks = [F.normalize(by_names @ (weight - weight.mean(dim=0)), dim=1) for weight in classifiers]
    return Guide(
        torch.cat(looks, dim=1).T.contiguous(),
        words.superclass,
        int(words.superclass.max()) + 1,
        len(looks),
        words.things,
    )


def teach_words(method: object, config: Config, superclasses: tuple[str, ...]) -> None:
    """Give the method of a record the words that the record names; nothing where it names none.

    Raises:
        DataError, ConfigError: where they cannot be used.
    """
    reference = config.matching.words
    if not isinstance(method, Matching) or reference is None:
        return
    method.guide = make_guide(read_words(reference, superclasses), config.backbone.name)
    method.guide.to_whole_numbers()


def guide_warning(guide: Guide, features: Tensor, labels: Indices) -> str | None:
    """Where what a guide says by itself of photos is hardly better than guessing.

    Guides in another language, or with each thing in a bin of chance, are right about 15 to 34% of
    four bins (balanced), by 40 photos or by 5,136; two in English about 58 to 69%.

    Args:
        features: float [n, D] of photos, as the backbone gives them.
        labels: int64 [n], their superclasses.
    """
    with torch.no_grad():
        said = guide(features).probabilities.cpu().numpy()
    superclasses = said.shape[1]
    right, guessing = balanced_accuracy(said.argmax(axis=1), labels, superclasses), 1 / superclasses
    if right >= guessing + NEAR_GUESSING * (1 - guessing):
        return None
    return (
        f"warning: the guide alone is right about {right:.1%} of the train photos (balanced), and "
        f"guessing about {guessing:.1%}: it misleads where nothing in the bank is alike. Its "
        "things have to be named in English, by everyday words, each in the right bin; the record "
        "refuse-matching does without a guide"
    )


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
