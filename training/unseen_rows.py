"""What `training.unseen` has measured already, row by row in its file, and means over it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from training.checkpoint import hardware, write_json
from training.data.folds import Folds
from training.data.photos import PhotoSet
from training.data.store import sizes_digest
from training.device import pick_device


class Rows:
    """The results file: a row stays while its settings, the folds and the data are the same."""

    def __init__(self, file: Path, folds: Folds, data: PhotoSet, device: str) -> None:
        self._file = file
        self._about = {
            "folds": folds.name,
            "held_out": {fold: list(kinds) for fold, kinds in folds.held_out.items()},
            "kind_of": folds.kind_of,
            "data": data.summary(),
            "photos": sizes_digest(data.root, data.photos),
            "hardware": hardware(pick_device(device)),
        }
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        same = all(
            before.get(key) == self._about[key] for key in ("held_out", "kind_of", "data", "photos")
        )
        self.all: list[dict[str, Any]] = before["rows"] if same else []

    def has(self, name: str, fold: str, seed: int, settings: dict[str, Any]) -> bool:
        """Whether this was measured; a row of other settings, or of before, is dropped."""
        key = (name, fold, seed)
        mine = [row for row in self.all if (row["record"], row["fold"], row["seed"]) == key]
        if mine and (mine[0].get("settings") != settings or "seen_sorted" not in mine[0]):
            self.all.remove(mine[0])
            return False
        return bool(mine)

    def add(
        self,
        name: str,
        fold: str,
        seed: int,
        settings: dict[str, Any],
        figures: dict[str, Any],
    ) -> None:
        """Keep a row at once, so that a run which is stopped goes on from here."""
        row = {"record": name, "fold": fold, "seed": seed, "settings": settings, **figures}
        self.all.append(row)
        write_json(self._file, {**self._about, "rows": self.all})


def over_seeds(rows: list[dict[str, Any]], figure: str) -> dict[str, list[float]]:
    """For each record the mean over folds of a figure, seed by seed."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        values[row["record"]][row["seed"]].append(float(row[figure]))
    return {
        record: [float(np.mean(folds)) for _, folds in sorted(seeds.items())]
        for record, seeds in values.items()
    }
