"""Which photos are worth a person's look: the unsure, the contested, and a few at random."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

from service.review.records import Reason
from service.schemas import Classification

CONTESTED_WEIGHT = 0.25  # of all attention; below it the references decided little


@dataclass(frozen=True)
class Shares:
    """Of each kind of photo, how many are kept: 1.0 is all of them."""

    uncertain: float
    contested: float
    random: float


def reason_to_keep(answer: Classification, shares: Shares) -> Reason | None:
    """Why a photo is to be kept; None where it is not."""
    if answer.decision == "manual" and random.random() < shares.uncertain:
        return "uncertain"
    if is_contested(answer) and random.random() < shares.contested:
        return "contested"
    return "random" if random.random() < shares.random else None


def is_contested(answer: Classification) -> bool:
    """Whether the strongest references are, together, of another superclass than the answer."""
    weights: dict[str, float] = defaultdict(float)
    for reference in answer.references:
        weights[reference.superclass] += reference.weight
    if not weights:
        return False
    strongest = max(weights, key=lambda superclass: weights[superclass])
    return strongest != answer.superclass and weights[strongest] >= CONTESTED_WEIGHT
