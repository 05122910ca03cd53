"""Votes that fall back on a sorting guide's words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from training.backbones.efficientnet_lite import pretrained_classifier
from training.votes import KERNEL_AND_WORDS, Asked, vote
from training.words import make_guide, read_words


def test_words_decide_only_where_nothing_trained_on_is_like_the_photo(tmp_path: Path) -> None:
    """Twenty photos of lemons are moss in training; nothing is like the banana."""
    file = tmp_path / "guide.toml"
    file.write_text('[superclasses]\namber = ["fruit"]\nmoss = ["glass bottle"]\n')
    weight, _ = pretrained_classifier("efficientnet_lite0")
    lemon, banana = (F.normalize(weight[number], dim=0)[None] for number in (951, 954))
    torch.manual_seed(0)
    others = torch.randn(60, weight.shape[1])
    known = torch.cat([60 * lemon + 0.5 * torch.randn(20, weight.shape[1]), others])
    labels = np.array([1] * 20 + [0, 1] * 30)
    mean, deviation = known.mean(dim=0), known.std(dim=0)
    train = ((known - mean) / deviation, labels)
    asked = Asked(train, train, train, train, mean, deviation)
    guide = make_guide(read_words(str(file), ("amber", "moss")), "efficientnet_lite0")
    guide.fit(known, torch.from_numpy(labels))
    photos = torch.cat([60 * lemon, 60 * banana])
    assert guide(photos).probabilities.argmax(dim=1).tolist() == [0, 0]
    said = vote(KERNEL_AND_WORDS, asked, 2, guide)((photos - mean) / deviation)
    assert said.argmax(axis=1).tolist() == [1, 0]
    assert said[0].max() > said[1].max() + 0.2  # which nothing is like is doubted
    np.testing.assert_allclose(said.sum(axis=1), 1.0)
