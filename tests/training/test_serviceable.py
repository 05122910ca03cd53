"""What speaks against serving a model."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.photo import Photo
from training.outcome import Outcome
from training.serviceable import warnings_of

NAMES = ("hazardous", "organic", "recyclable", "residual")


def outcome(labels: list[int], answered: list[int]) -> Outcome:
    return Outcome(
        target="run",
        split="val",
        superclasses=NAMES,
        photos=tuple(Photo(f"{i}.jpg", NAMES[k]) for i, k in enumerate(labels)),
        labels=np.array(labels),
        logits=4.0 * np.eye(len(NAMES))[answered],
        embedding=np.zeros((len(labels), 2), np.float32),
        calibration=None,
        method="matching",
    )


ALL = [0, 1, 2, 3] * 10


def test_a_sound_model_is_not_warned_of() -> None:
    assert list(warnings_of(outcome(ALL, ALL), 1.0, 0.5)) == []


@pytest.mark.parametrize(
    ("labels", "answered", "threshold", "told"),
    [
        (
            ALL,
            [2] * 40,
            0.5,
            "val is 25.0%, and guessing has 25.0%: this model has learned n",
        ),
        (ALL, ALL, 0.999, "none of the 40 photos of val reaches the threshold: all would be left"),
        (ALL[:18], ALL[:18], 0.5, "val has only 5 of hazardous, 5 of organic, 4 of recyclable, 4"),
    ],
)
def test_what_speaks_against_one_is_told(
    labels: list[int], answered: list[int], threshold: float, told: str
) -> None:
    (found,) = warnings_of(outcome(labels, answered), 1.0, threshold)
    assert told in found
