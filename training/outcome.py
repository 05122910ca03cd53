"""What a model answered on a split, as arrays: what all figures and pictures are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from service.bundle import MANIFEST, read_bundle, read_manifest
from service.classifier import Classifier
from training import checkpoint
from training.data.folds import read_photos_as, read_photos_of
from training.data.photos import Photo, PhotoSet, label_indices
from training.data.store import open_split
from training.errors import DataError
from training.model import SuperclassModel
from training.predict import answer_all, extract_features
from training.progress import track

Array = npt.NDArray[Any]

CALIBRATION = checkpoint.CALIBRATION
BANK = "bank (served)"
CONTEXT_NAMES = {
    "batch": "batch protocol (other test photos in sight; not served)",
    "lone": "lone photo without a bank (a plain export; not served)",
}
SHUFFLES = 5  # of the batch protocol, whose accuracy depends on who sits beside whom
RUN_BATCH = 16


@dataclass
class Outcome:
    """Answers over n photos and K superclasses, in the photos' order.

    Attributes:
        logits: float64 [n, K] in bank mode, before the temperature (for a bundle, up to a constant
            per photo).
        embedding: float32 [n, E], unit length.
        other_contexts: predicted superclasses [n] of each shuffle, by context.
        calibration: what `superbin calibrate` fitted, or None.
    """

    target: str
    split: str
    superclasses: tuple[str, ...]
    photos: tuple[Photo, ...]
    labels: Array
    logits: Array
    embedding: Array
    calibration: dict[str, Any] | None
    method: str
    has_bank: bool = True  # whether photos see anything but themselves
    variant: str = "pytorch"
    other_contexts: dict[str, list[Array]] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)

    def only(self, rows: Array) -> Outcome:
        """Of some of the photos: bool [n]."""
        others = {name: [one[rows] for one in each] for name, each in self.other_contexts.items()}
        return replace(
            self,
            photos=tuple(compress(self.photos, rows)),
            labels=self.labels[rows],
            logits=self.logits[rows],
            embedding=self.embedding[rows],
            other_contexts=others,
        )

    @property
    def predicted(self) -> Array:
        """int64 [n]."""
        return np.asarray(self.logits.argmax(axis=1))

    def probabilities(self, temperature: float | None = None) -> Array:
        """float64 [n, K], at a temperature, by default the calibrated one (else 1)."""
        if temperature is None:
            temperature = float(self.calibration["temperature"]) if self.calibration else 1.0
        return softmax(self.logits / temperature)


def softmax(logits: Array) -> Array:
    """Over the last axis, without overflow."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def read_calibration(run: Path) -> dict[str, Any] | None:
    """What `superbin calibrate` left in a run folder, or None."""
    file = run / CALIBRATION
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def measure(
    target: Path, data: Path, split: str, superclass_map: Path | None, device: str
) -> Outcome:
    """Answer a split with a run's model, or with a bundle's ONNX file.

    Raises:
        RunError, BundleError, DataError: where either side cannot be used.
    """
    return measure_on(target, photos_for(target, data, superclass_map), split, device)


def photos_for(target: Path, data: Path, superclass_map: Path | None) -> PhotoSet:
    """Photos to measure a run or a bundle on.

    Raises:
        RunError, DataError: where they cannot be read.
    """
    if (target / MANIFEST).is_file():
        return read_photos_of(read_manifest(target), data, superclass_map)
    return read_photos_as(data, checkpoint.read_config(target), superclass_map, to_learn=False)


def measure_on(target: Path, photos: PhotoSet, split: str, device: str) -> Outcome:
    """`measure`, on photos that `photos_for` has read."""
    if (target / MANIFEST).is_file():
        return measure_bundle(target, photos, split)
    model, state = checkpoint.load_model(target)
    return measure_model(target, model.to(device), state, photos, split, device)


def measure_model(
    run: Path,
    model: SuperclassModel,
    state: dict[str, Any],
    data: PhotoSet,
    split: str,
    device: str,
) -> Outcome:
    """Answers of a PyTorch model in all three contexts; features are computed once."""
    config = checkpoint.read_config(run)
    check_superclasses(tuple(state["superclasses"]), data)
    store = open_split(data, split, config.data.served())
    features = extract_features(model, store.pixels, device, label=f"{run.name} on {split}")
    banked = answer_all(model, features, "bank")
    others: dict[str, list[Array]] = {}
    if model.method.has_bank:
        shuffled = [answer_all(model, features, "batch", seed=seed) for seed in range(SHUFFLES)]
        others["batch"] = [_classes(answer.logits) for answer in shuffled]
        others["lone"] = [_classes(answer_all(model, features, "lone").logits)]
    return Outcome(
        target=str(run),
        split=split,
        superclasses=data.superclasses,
        photos=store.photos,
        labels=label_indices(store.photos, data),
        logits=banked.logits.double().cpu().numpy(),
        embedding=banked.embedding.cpu().numpy(),
        calibration=read_calibration(run),
        method=config.method,
        has_bank=model.method.has_bank,
        other_contexts=others,
        bad=store.bad,
    )


def measure_bundle(
    path: Path, data: PhotoSet, split: str, *, variant: str | None = None
) -> Outcome:
    """Answers of a bundle's ONNX file, through the service's own classifier, photo by photo."""
    bundle = read_bundle(path)
    manifest = bundle.manifest
    check_superclasses(manifest.superclasses, data)
    classifier = Classifier(bundle, variant=variant)
    store = open_split(data, split, manifest.preprocessing)
    answers = []
    with track(f"{bundle.id} {classifier.variant} on {split}", len(store.photos)) as advance:
        for index in range(len(store.photos)):
            answers.append(classifier.run(np.ascontiguousarray(store.pixels[index : index + 1])))
            advance(1)
    probabilities = np.concatenate([answer.probabilities for answer in answers]).astype(float)
    calibration = manifest.calibration.model_dump(mode="json")
    logits = np.log(np.maximum(probabilities, 1e-30)) * calibration["temperature"]
    return Outcome(
        target=str(path),
        split=split,
        superclasses=manifest.superclasses,
        photos=store.photos,
        labels=label_indices(store.photos, data),
        logits=logits,
        embedding=np.concatenate([answer.embedding for answer in answers]),
        calibration=calibration,
        method=str(manifest.provenance.config.get("method", "sclre")),
        variant=classifier.variant,
        bad=store.bad,
    )


def check_superclasses(trained: tuple[str, ...], data: PhotoSet) -> None:
    """See that a model can be measured on these photos.

    Raises:
        DataError: where their superclasses are not its own.
    """
    if trained != data.superclasses:
        raise DataError(
            f"the model knows the superclasses {list(trained)}, and {data.root} has "
            f"{list(data.superclasses)}; name photos of the same ones, or the map that it was "
            "trained by (--superclasses)"
        )


def _classes(logits: torch.Tensor) -> Array:
    return np.asarray(logits.argmax(dim=1).cpu().numpy())
