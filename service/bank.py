"""A bank in a file of its own, `bank.npz`: keys and values that stand in place of the graph's.

The graph has both as inputs with default values, so that items can come and go while the graph,
and the SHA-256 of its file, stay as they are. Row i of either is item i of the manifest's bank.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service import bundle as contract
from service.bundle import Bundle
from service.errors import BundleError

Floats = npt.NDArray[np.float32]
BANK = "bank.npz"
INPUTS = {"keys": contract.INPUT_BANK_KEYS, "values": contract.INPUT_BANK_VALUES}
STORED = (np.float32, np.float16)


def read_bank(bundle: Bundle) -> dict[str, Floats]:
    """float32 keys [M, key width] and values [M, value width] by the graph's input.

    Empty where the bundle has no such file: the graph's own bank answers then.

    Raises:
        BundleError: for a file that is not of that form, or that does not fit the manifest's items.
    """
    name = bundle.manifest.bank.file
    if name is None:
        return {}
    arrays = _load(bundle.path / name)
    items = len(bundle.manifest.bank.items)
    for key, array in arrays.items():
        if array.ndim != 2 or array.dtype not in STORED or len(array) != items:
            raise BundleError(
                f"{bundle.id}: {name}: expected {key} as float32 or float16 [{items}, width], got "
                f"{array.dtype} {list(array.shape)}"
            )
        if not np.isfinite(array).all():
            raise BundleError(f"{bundle.id}: {name}: expected finite {key}, got others")
    return {INPUTS[key]: np.ascontiguousarray(a, dtype=np.float32) for key, a in arrays.items()}


def write_bank(path: Path, keys: Floats, values: Floats) -> None:
    """Write keys and values, one row an item, to a new file."""
    np.savez(path, keys=keys, values=values)


def _load(file: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            if set(stored.files) != set(INPUTS):
                raise BundleError(f"{file}: expected {sorted(INPUTS)}, got {sorted(stored.files)}")
            return {key: stored[key] for key in INPUTS}
    except BundleError:
        raise
    except Exception as error:  # zip, pickle and header errors share no narrower base
        raise BundleError(f"{file} is no bank: {error}") from error
