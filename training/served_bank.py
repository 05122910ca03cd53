"""A bundle's bank as arrays: items beside their keys and values, to add to and to take from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from service import bundle as contract
from service.bank import Floats, read_bank
from service.bundle import BankItem, Bundle
from service.errors import BundleError


@dataclass(frozen=True)
class ServedBank:
    """M items with float32 keys [M, key width] and values [M, value width]."""

    items: tuple[BankItem, ...]
    keys: Floats
    values: Floats

    def without(self, ids: Collection[str]) -> ServedBank:
        """The bank less these items."""
        kept = [row for row, item in enumerate(self.items) if item.id not in ids]
        return ServedBank(
            tuple(self.items[row] for row in kept), self.keys[kept], self.values[kept]
        )

    def joined(self, items: Sequence[BankItem], keys: Floats, values: Floats) -> ServedBank:
        """The bank and these items after its own."""
        return ServedBank(
            (*self.items, *items),
            np.concatenate([self.keys, keys]).astype(np.float32),
            np.concatenate([self.values, values]).astype(np.float32),
        )


def served_bank(bundle: Bundle) -> ServedBank:
    """What the bundle answers by: its file's bank, or else its graph's.

    Raises:
        BundleError: where either does not fit the manifest's items.
    """
    arrays = read_bank(bundle) or graph_bank(bundle)
    keys, values = arrays[contract.INPUT_BANK_KEYS], arrays[contract.INPUT_BANK_VALUES]
    items = bundle.manifest.bank.items
    if not len(keys) == len(values) == len(items):
        raise BundleError(
            f"{bundle.id}: expected keys and values of {len(items)} bank items, got {len(keys)} "
            f"and {len(values)}"
        )
    return ServedBank(items, keys, values)


def graph_bank(bundle: Bundle) -> dict[str, Floats]:
    """The default values of the graph's bank inputs, by input.

    Raises:
        BundleError: where the graph has none.
    """
    wanted = {contract.INPUT_BANK_KEYS, contract.INPUT_BANK_VALUES}
    graph = onnx.load(bundle.model_path()).graph
    found = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.name in wanted}
    if lacking := sorted(wanted - found.keys()):
        raise BundleError(f"{bundle.id}: the graph has no default values for {lacking}")
    return found
