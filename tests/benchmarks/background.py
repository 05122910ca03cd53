"""The half of the pictures that a background is made of: copied, for `matching.background`.

    python -m tests.benchmarks.background PICTURES BACKGROUND

What may be somebody's refuse stays out. `not_refuse` reports on the other half alone. With a third
argument, a file, it is given what EfficientNet-Lite0 makes of them, float16 [363, 1280]: so
`training/data/backgrounds/pictures.npy` was made.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from tests.benchmarks.likeness import second_half
from tests.benchmarks.pictures import GROUPS, PERHAPS_REFUSE
from training.checkpoint import begin_model
from training.data.background import open_background
from training.predict import extract_features
from training.records import load_config


def main(
    pictures: Path, target: Path, file: Annotated[Path | None, typer.Argument()] = None
) -> None:
    """The half of the pictures that a background is made of."""
    for group in sorted(set(GROUPS) - {PERHAPS_REFUSE}):
        chosen = [f for f in sorted((pictures / group).iterdir()) if not second_half(group, f.name)]
        (target / group).mkdir(parents=True, exist_ok=True)
        for picture in chosen:
            shutil.copyfile(picture, target / group / picture.name)
        print(f"{group}: {len(chosen)}")
    if file is not None:
        config = load_config("refuse-words")
        store = open_background(target, config.data.served())
        found = extract_features(begin_model(config, 2), store.pixels, "cpu", label="features")
        np.save(file, found.numpy().astype(np.float16))


if __name__ == "__main__":
    typer.run(main)
