"""A bank in a file of its own, `bank.npz`: keys and values that stand in place of the graph's.

The graph has both as inputs with default values, so that items can come and go while the graph,
and the SHA-256 of its file, stay as they are. Row i of either is item i of the manifest's bank. The
keys of a background, which has no items, may be beside them.
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
OF_ITEMS = ("keys", "values")
INPUTS = {
    "keys": contract.INPUT_BANK_KEYS,
    "values": contract.INPUT_BANK_VALUES,
    "background": contract.INPUT_BACKGROUND_KEYS,
}
STORED = (np.float32, np.float16)


def read_bank(bundle: Bundle) -> dict[str, Floats]:
    """float32 keys [M, key width], values [M, value width], and the background's, by graph input.

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
        rows = items if key in OF_ITEMS else max(1, len(array) if array.ndim else 0)
        if array.ndim != 2 or array.dtype not in STORED or len(array) != rows:
            raise BundleError(
                f"{bundle.id}: {name}: expected {key} as float32 or float16 [{rows}, width], got "
                f"{array.dtype} {list(array.shape)}"
            )
        if not np.isfinite(array).all():
            raise BundleError(f"{bundle.id}: {name}: expected finite {key}, got others")
    return {INPUTS[key]: np.ascontiguousarray(a, dtype=np.float32) for key, a in arrays.items()}


def write_bank(path: Path, keys: Floats, values: Floats, background: Floats | None = None) -> None:
    """Write keys and values, one row an item, and the background's keys to a new file."""
    arrays: dict[str, Any] = {"keys": keys, "values": values}
    if background is not None:
        arrays["background"] = background
    np.savez(path, **arrays)


def _load(file: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(file, allow_pickle=False) as stored:
            found = set(stored.files)
            if not set(OF_ITEMS) <= found <= set(INPUTS):
                raise BundleError(
                    f"{file}: expected {', '.join(OF_ITEMS)} and at most background beside them, "
                    f"got {sorted(found)}"
                )
            return {key: stored[key] for key in INPUTS if key in found}
    except BundleError:
        raise
    except Exception as error:  # zip, pickle and header errors share no narrower base
        raise BundleError(f"{file} is no bank: {error}") from error
