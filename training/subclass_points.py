"""One superclass's photos on a plane, kept beside the report so that runs can be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.checkpoint import write_json
from training.outcome import Array, Outcome
from training.projection import LEAST, choose, project

POINTS = "subclasses.json"


@dataclass(frozen=True)
class SubclassPoints:
    """n photos of a superclass.

    Attributes:
        photos: their paths [n].
        subclasses: what they show [n].
        planes: float [n, 2] by the method that laid them out.
    """

    superclass: str
    split: str
    photos: tuple[str, ...]
    subclasses: tuple[str, ...]
    planes: dict[str, Array]

    def write(self, folder: Path) -> None:
        """Keep them in the folder of an evaluation."""
        planes = {name: plane.round(4).tolist() for name, plane in self.planes.items()}
        write_json(folder / POINTS, {**vars(self), "planes": planes})


def read_points(folder: Path) -> SubclassPoints | None:
    """What an evaluation has kept; None where it drew no subclasses."""
    file = folder / POINTS
    if not file.is_file():
        return None
    kept = json.loads(file.read_text(encoding="utf-8"))
    return SubclassPoints(
        kept["superclass"],
        kept["split"],
        tuple(kept["photos"]),
        tuple(kept["subclasses"]),
        {name: np.array(plane, dtype=np.float32) for name, plane in kept["planes"].items()},
    )


def lay_out(outcome: Outcome) -> SubclassPoints | None:
    """The photos of the superclass with the most subclasses; None where none has two."""
    if (richest := richest_superclass(outcome)) is None:
        return None
    some = choose(np.flatnonzero(outcome.labels == richest))
    photos = [outcome.photos[place] for place in some]
    return SubclassPoints(
        outcome.superclasses[richest],
        outcome.split,
        tuple(photo.path for photo in photos),
        tuple(photo.subclass or "unnamed" for photo in photos),
        project(outcome.embedding[some]),
    )


def richest_superclass(outcome: Outcome) -> int | None:
    """The superclass with the most subclasses; None where none has two and photos enough."""
    counts = []
    for k in range(len(outcome.superclasses)):
        mine = [outcome.photos[i].subclass for i in np.flatnonzero(outcome.labels == k)]
        counts.append(len(set(mine) - {None}) if len(mine) >= LEAST else 0)
    best = int(np.argmax(counts))
    return best if counts[best] > 1 else None
