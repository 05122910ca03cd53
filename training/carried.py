"""What a corrected version takes over of its parent's references, and what is made anew or dropped.

Limits of quality know nothing of the bank. The familiarity's file has a row for each bank item:
rows come and go with the items, and the threshold stays, since a few items hardly move it. How
answers are spread, which drift is told by, is measured anew where there are photos to do it with.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from service.bundle import Bundle, Manifest, record_of, write_manifest
from service.familiarity import read_items
from training.data.photos import PhotoSet
from training.drift_reference import with_drift_reference
from training.errors import DataError
from training.served_bank import ServedBank

# Optional parts of a manifest that do not depend on the bank, or that a few items hardly move
KEPT = frozenset({"quality", "item_spread"})


def optional_parts() -> set[str]:
    """The manifest's parts that may be missing."""
    return {name for name, field in Manifest.model_fields.items() if field.default is None}


def with_carried_familiarity(
    part: Path, parent: Bundle, manifest: Manifest, bank: ServedBank
) -> Manifest:
    """With the parent's familiarity, a row for each item of the new bank; written.

    Args:
        bank: by matching, whose keys are embeddings.
    """
    limit = parent.manifest.familiarity
    if limit is None:
        return manifest
    if limit.file is None:  # its graph tells it, of any bank
        complete = manifest.model_copy(update={"familiarity": limit})
        write_manifest(part, complete)
        return complete
    old = read_items(parent.path / limit.file, parent)
    rows = {item.id: row for item, row in zip(parent.manifest.bank.items, old, strict=True)}
    items = [rows.get(item.id, key) for item, key in zip(bank.items, bank.keys, strict=True)]
    content = io.BytesIO()
    np.save(content, np.stack(items).astype(np.float16), allow_pickle=False)
    file = f"familiarity-{hashlib.sha256(content.getvalue()).hexdigest()[:8]}.npy"
    (part / file).write_bytes(content.getvalue())
    carried = limit.model_copy(update={"file": file})
    files = manifest.files | {file: record_of(part / file)}
    complete = manifest.model_copy(update={"familiarity": carried, "files": files})
    write_manifest(part, complete)
    return complete


def with_new_drift(part: Path, parent: Bundle, manifest: Manifest, data: PhotoSet) -> Manifest:
    """With a drift reference of its own, where the parent has one and val has photos enough."""
    if parent.manifest.drift is None:
        return manifest
    try:
        return with_drift_reference(part, manifest, data)
    except DataError as error:
        print(f"no drift reference: {error}")
        return manifest


def dropped_parts(parent: Bundle, manifest: Manifest) -> list[str]:
    """Parts that the parent has and this version has not."""
    names = sorted(optional_parts())
    return [n for n in names if getattr(parent.manifest, n) and not getattr(manifest, n)]
