"""CIFAR-100's official files with few and small-minded images: a colour for each subclass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.cifar100 import FOLDER
from training.data.photos import MAPS


def fine_names() -> list[str]:
    """As in the official file: all of them, in alphabetical order."""
    text = (MAPS / "cifar100-4.toml").read_text(encoding="utf-8")
    return sorted(word for word in text.split('"')[1::2])


def table(each: int, seed: int) -> npt.NDArray[np.uint8]:
    """Rows as in the official files, shuffled; each subclass has a colour of its own."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(100, dtype=np.uint8), each))
    colours = np.random.default_rng(0).integers(20, 236, (100, 3))
    noise = random.integers(-20, 20, (len(labels), 3, 32 * 32))
    planes = (colours[labels][:, :, None] + noise).astype(np.uint8).reshape(len(labels), -1)
    return np.hstack([labels[:, None] // 5, labels[:, None], planes])


def write_cifar(root: Path, each: dict[str, int]) -> Path:
    """Write the folder that the archive unpacks to; `each`: images of a subclass, by split."""
    folder = root / FOLDER
    folder.mkdir()
    for seed, (split, count) in enumerate(each.items()):
        table(count, seed).tofile(folder / f"{split}.bin")
    (folder / "fine_label_names.txt").write_text("\n".join(fine_names()) + "\n")
    return root
