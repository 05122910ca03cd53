"""A bundle's or a run's bank as arrays: items, keys and values, to add to and to take from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from service import bundle as contract
from service.bank import Floats, read_bank
from service.bundle import BankItem, Bundle
from service.errors import BundleError
from training.data.photo import Photo
from training.errors import DataError
from training.methods import BankMethod
from training.model import SuperclassModel

MATCHING = "matching"  # the method whose keys are embeddings
SAME = 0.99  # cosine of keys: of the refuse data's photos of two superclasses none has over 0.89


@dataclass(frozen=True)
class ServedBank:
    """M items with float32 keys [M, key width] and values [M, value width].

    Attributes:
        background: float32 [B, key width], where the bundle has one.
    """

    items: tuple[BankItem, ...]
    keys: Floats
    values: Floats
    background: Floats | None = None

    def without(self, ids: Collection[str]) -> ServedBank:
        """The bank less these items."""
        kept = [row for row, item in enumerate(self.items) if item.id not in ids]
        items = tuple(self.items[row] for row in kept)
        return replace(self, items=items, keys=self.keys[kept], values=self.values[kept])

    def joined(self, items: Sequence[BankItem], keys: Floats, values: Floats) -> ServedBank:
        """The bank and these items after its own."""
        return replace(
            self,
            items=(*self.items, *items),
            keys=np.concatenate([self.keys, keys]).astype(np.float32),
            values=np.concatenate([self.values, values]).astype(np.float32),
        )

    def alike(self, name: str, key: Floats | None) -> list[BankItem]:
        """Items that are this very photo, by name or, where its key is given, by likeness."""
        rows = {row for row, item in enumerate(self.items) if item.id == name}
        if key is not None:
            rows |= set(np.flatnonzero(self.keys @ key >= SAME).tolist())
        return [self.items[row] for row in sorted(rows)]


def served_bank(bundle: Bundle) -> ServedBank:
    """What the bundle answers by: its file's bank, or else its graph's.

    Raises:
        BundleError: where either does not fit the manifest's items.
    """
    arrays = graph_bank(bundle) | read_bank(bundle)
    keys, values = arrays[contract.INPUT_BANK_KEYS], arrays[contract.INPUT_BANK_VALUES]
    items = bundle.manifest.bank.items
    if not len(keys) == len(values) == len(items):
        raise BundleError(
            f"{bundle.id}: expected keys and values of {len(items)} bank items, got {len(keys)} "
            f"and {len(values)}"
        )
    return ServedBank(items, keys, values, arrays.get(contract.INPUT_BACKGROUND_KEYS))


def trained_bank(model: SuperclassModel, state: dict[str, Any]) -> ServedBank:
    """The bank of a finished run, whose method has one; `state` is what its checkpoint holds."""
    method = cast(BankMethod, model.head)
    keys, values = (one.cpu().numpy() for one in (method.bank_keys, method.bank_values))
    return ServedBank(bank_items(state), keys, values)


def bank_items(state: dict[str, Any]) -> tuple[BankItem, ...]:
    """The items of a finished run's bank."""
    return tuple(
        BankItem(
            id=item["path"],
            superclass=item["superclass"],
            subclass=item["subclass"],
            source=item["source"],
        )
        for item in state["bank"]
    )


def in_bank(bundle: Bundle, photos: Sequence[Photo], embeddings: Floats) -> npt.NDArray[np.bool_]:
    """`known_photos` of a bundle's bank."""
    method = str(bundle.manifest.provenance.config.get("method"))
    return known_photos(served_bank(bundle), method, photos, embeddings)


def known_photos(
    bank: ServedBank, method: str, photos: Sequence[Photo], embeddings: Floats
) -> npt.NDArray[np.bool_]:
    """Which of n photos the bank has, bool [n].

    A photo that the bank has is answered by itself, and says nothing of new ones. By SCLRE, whose
    keys are no embeddings, such a photo is known by its name alone.

    Args:
        embeddings: float32 [n, E].
    """
    matching = method == MATCHING
    known = [
        bool(bank.alike(photo.path, row if matching else None))
        for photo, row in zip(photos, embeddings, strict=True)
    ]
    return np.array(known, dtype=bool)


def new_to_bank(
    bundle: Bundle, photos: Sequence[Photo], embeddings: Floats, use: str
) -> npt.NDArray[np.bool_]:
    """`new_photos` of a bundle's bank.

    Raises:
        DataError: where the bank has all of them.
    """
    method = str(bundle.manifest.provenance.config.get("method"))
    return new_photos(served_bank(bundle), method, photos, embeddings, use)


def new_photos(
    bank: ServedBank, method: str, photos: Sequence[Photo], embeddings: Floats, use: str
) -> npt.NDArray[np.bool_]:
    """Which of n photos the bank does not have, bool [n]; how many it has is printed.

    Args:
        embeddings: float32 [n, E].
        use: what the photos are for, in words.

    Raises:
        DataError: where the bank has all of them.
    """
    new = ~known_photos(bank, method, photos, embeddings)
    if not new.any():
        raise DataError(
            f"{use}: expected photos that the bank does not have, got {len(new)} that it has"
        )
    if known := int((~new).sum()):
        print(f"{use}: {known} of {len(new)} photos are left out, since the bank has them")
    return new


def graph_bank(bundle: Bundle) -> dict[str, Floats]:
    """The default values of the graph's bank inputs, by input; of its background, if it has one.

    Raises:
        BundleError: where the graph has none of the bank.
    """
    wanted = {contract.INPUT_BANK_KEYS, contract.INPUT_BANK_VALUES}
    inputs = {*wanted, contract.INPUT_BACKGROUND_KEYS}
    graph = onnx.load(bundle.model_path()).graph
    found = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.name in inputs}
    if lacking := sorted(wanted - found.keys()):
        raise BundleError(f"{bundle.id}: the graph has no default values for {lacking}")
    return found
