"""Pictures of what is none of the superclasses: a folder of any, or the features of those shipped.

`backgrounds/pictures.npy` is what EfficientNet-Lite0 makes of 363 pictures under free licences, of
places, animals, screens, drawings and noise (`tests/benchmarks/background.py` made it, and the
README beside it says of which); the pictures themselves are not here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from service.preprocess import Preprocessing
from training.config import SHIPPED_BACKGROUND
from training.data.own import EXTENSIONS
from training.data.photo import NOT_UTF_8, Photo, legible
from training.data.store import PixelStore, open_store
from training.errors import DataError

SHIPPED = Path(__file__).parent / "backgrounds" / f"{SHIPPED_BACKGROUND}.npy"
LEAST = 5  # pictures; fewer say nothing of what else there is
NAMED = 3  # bad ones on the terminal


def open_background(folder: Path, spec: Preprocessing) -> PixelStore:
    """Decode all pictures at any depth below a folder.

    Raises:
        DataError: where there is no such folder, or hardly a picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"background: expected a folder of pictures, got {folder}")
    paths = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS and path.is_file()
    )
    named = tuple(Photo(path, superclass="") for path in paths if legible(path) == path)
    store = open_store(folder, named, spec)
    bad = store.bad | {legible(path): NOT_UTF_8 for path in paths if legible(path) != path}
    if bad:
        some = [f"{path} ({why})" for path, why in list(bad.items())[:NAMED]]
        more = len(bad) - len(some)
        told = "; ".join([*some, *([f"and {more} more"] if more else [])])
        print(f"background: left out, since they cannot be used: {told}")
    if len(store.photos) < LEAST:
        raise DataError(
            f"background: expected {LEAST} pictures or more below {folder}, got "
            f"{len(store.photos)} that decode (files of {', '.join(sorted(EXTENSIONS))})"
        )
    return store


def shipped_background() -> Tensor:
    """float32 [363, 1280]: the shipped pictures' features, for records that may have them."""
    return torch.from_numpy(np.load(SHIPPED).astype(np.float32))
