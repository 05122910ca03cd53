"""What one training run holds: data, model, optimiser, and where it is."""

from __future__ import annotations

import copy
import os
import shlex
import shutil
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from service.preprocess import Pixels
from training import checkpoint, distributed
from training.config import SHIPPED_BACKGROUND, Config
from training.data.background import open_background, shipped_background
from training.data.photos import PhotoSet, label_indices
from training.data.sampling import BalancedSampler, Indices
from training.data.store import PixelStore, open_store, sizes_digest
from training.errors import ConfigError, DataError, RunError
from training.guide import Guide
from training.model import SuperclassModel
from training.optimise import build_optimiser
from training.subclasses import first_stage_subclasses
from training.whole_batch import share
from training.words import teach_words

RESIDENT_BYTES = 4_000_000_000  # CIFAR has 0.15 at 32 px
NAMED = 3  # bad photos on the terminal; all of them are in the file


@dataclass
class Progress:
    """Where a run is: counted in steps, never in seconds."""

    step: int = 0
    best_score: float = -1.0
    best: dict[str, Any] | None = None  # weights of the best epoch so far
    history: list[dict[str, Any]] = field(default_factory=list)


class Run:
    """Everything that one training run holds, built anew from its record and its data."""

    def __init__(self, config: Config, data: PhotoSet, out: Path, device: str) -> None:
        self.config, self.data, self.out, self.device = config, data, out, device
        torch.manual_seed(config.seed)
        if device.startswith("cuda"):
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.allow_tf32 = False  # fp32 is what `train.precision` says
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what determinism needs
        torch.use_deterministic_algorithms(True, warn_only=True)
        if config.train.compile:
            _check_compiler()
        self.share = share(config.train.batch)  # rows of a batch that are this process's
        with distributed.together():
            with distributed.machine_by_machine():
                self._open_stores()
            model = checkpoint.begin_model(config, len(data.superclasses))
            teach_words(model.method, config, data.superclasses)
            self.model = model.to(device)
        if not distributed.same([photo.path for photo in self.train_store.photos]):
            raise DataError(
                f"expected the same photos in all {distributed.world()} processes, got others in "
                f"some; is {data.root} the same folder on every machine?"
            )
        self.targets = self.labels  # what the loss is told of each photo
        if config.method == "george":
            self.targets = distributed.from_first(self._subclasses)
        self.parallel_model = distributed.parallel(self.model, device)
        self.average = copy.deepcopy(self.model) if config.train.ema else None
        if config.train.compile:  # in place: weights keep their names, and copies are as they were
            self.model.backbone.compile()
        self.optimiser = build_optimiser(self.model, config)
        self.sampler = BalancedSampler(self.labels, config.train.batch, config.seed)
        self.steps_an_epoch = max(1, len(self.labels) // config.train.batch)
        self.steps = max(1, round(config.train.epochs * self.steps_an_epoch))
        self.progress = Progress()

    @property
    def served_model(self) -> SuperclassModel:
        """The weights that are evaluated and kept: the average where there is one."""
        return self.average or self.model

    def pixels(self, rows: Indices) -> Tensor:
        """uint8 [n, H, W, 3] on the device: train photos by their place."""
        if self.resident is not None:
            return self.resident[torch.from_numpy(rows).to(self.device, non_blocking=True)]
        chosen = torch.from_numpy(self.train_store.pixels[rows])
        return chosen.to(self.device, non_blocking=True)

    def _open_stores(self) -> None:
        self.train_store = self._store("train", served=False)
        self.val_store = self._store("val", served=True)
        self._photos = sizes_digest(self.data.root, self.train_store.photos)
        self.resident = resident(self.train_store.pixels, self.device)
        self.labels = label_indices(self.train_store.photos, self.data)
        self.val_labels = label_indices(self.val_store.photos, self.data)
        # Bank items are photos as the service would see them, not augmented ones.
        self.bank_store = self._store("train", served=True)
        self.bank_labels = label_indices(self.bank_store.photos, self.data)
        self.background = self._background()
        self._check_data()

    def _background(self) -> PixelStore | Tensor | None:
        """Pixels of what is of no superclass, or their features at once."""
        reference = self.config.matching.background
        if reference == SHIPPED_BACKGROUND:
            return shipped_background()
        return open_background(Path(reference), self.config.data.served()) if reference else None

    def _subclasses(self) -> Indices:
        pixels, labels = self.bank_store.pixels, self.labels
        return first_stage_subclasses(self.config, self.data, pixels, labels, self.out, self.device)

    def _store(self, split: str, *, served: bool) -> PixelStore:
        spec = self.config.data.served() if served else self.config.data.cached()
        return open_store(self.data.root, self.data.split(split), spec)

    def _check_data(self) -> None:
        bad = {**self.train_store.bad, **self.val_store.bad}
        if self.data.split("test"):  # nothing but whether they decode is asked of these
            bad |= self._store("test", served=True).bad
        bad |= self.data.unusable()
        if distributed.rank() == 0:
            _report_bad(bad, self.out / checkpoint.BAD_PHOTOS)
            _report_copies(self.data)
            _report_contradictions(self.data)
        for name, labels in (("train", self.labels), ("val", self.val_labels)):
            counts = np.bincount(labels, minlength=len(self.data.superclasses))
            if counts.min() == 0:
                empty = self.data.superclasses[int(counts.argmin())]
                raise DataError(f"no photo of {empty} in the {name} split can be decoded")

    def state(self) -> dict[str, Any]:
        """All that the steps so far have changed."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimiser": self.optimiser.state_dict(),
            "progress": vars(self.progress),
            "things": self.things,
            "photos": self._photos,
        }

    @property
    def things(self) -> list[dict[str, str]]:
        """Name and superclass of each thing of the guide that the model has, if it has one."""
        guide = getattr(self.model.head, "guide", None)
        return guide.named(self.data.superclasses) if isinstance(guide, Guide) else []

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave.

        Raises:
            RunError: where the record's words or the train photos are others than then.
        """
        if state.get("photos", self._photos) != self._photos:
            raise RunError(
                f"photos in {self.data.root} have changed since {self.out} was started; start a "
                "new run"
            )
        if state.get("things", self.things) != self.things:
            raise RunError(
                f"the things in {self.config.matching.words} have changed since {self.out} was "
                "started; start a new run"
            )
        for module, name in ((self.model, "model"), (self.average, "average")):
            if module is not None:
                module.method.resize_bank(len(state[name].get("head.bank_keys", ())))
                module.load_state_dict(state[name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])


def resident(pixels: Pixels, device: str, limit: int = RESIDENT_BYTES) -> Tensor | None:
    """Photos kept in a GPU's memory where they fit, so that no step waits for them; else None."""
    if device == "cpu" or pixels.nbytes > limit:
        return None
    return torch.from_numpy(np.array(pixels)).to(device)


def _check_compiler() -> None:
    """What torch.compile compiles with, before photos are decoded in vain.

    Raises:
        ConfigError: where there is none.
    """
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    if not compiler or shutil.which(compiler[0]) is None:
        raise ConfigError(
            f"train.compile: expected a C++ compiler ({' '.join(compiler)}, or what CXX names), "
            "got none"
        )


def _report_copies(data: PhotoSet) -> None:
    if data.copies:
        named = ", ".join(
            f"{later.path} of {later.split} is {first.path} of {first.split}"
            for later, first in data.copies[:NAMED]
        )
        print(
            f"warning: {len(data.copies)} photos of val or test are byte for byte photos that are "
            f"learned from or calibrated on, so that figures on them say little: {named}"
            + (", ..." if len(data.copies) > NAMED else ""),
            flush=True,
        )


def _report_contradictions(data: PhotoSet) -> None:
    there = {photo.path for photo in data.photos}  # what a review corrected has left
    pairs = [pair for pair in data.contradictions if all(one.path in there for one in pair)]
    if pairs:
        named = ", ".join(
            f"{one.path} ({one.superclass}) is {first.path} ({first.superclass})"
            for one, first in pairs[:NAMED]
        )
        print(
            f"warning: {len(pairs)} photos are byte for byte others of another superclass, and one "
            f"of the two is wrong: {named}" + (", ..." if len(pairs) > NAMED else ""),
            flush=True,
        )
    spelt: dict[str, list[str]] = {}
    for name in data.superclasses:
        folded = unicodedata.normalize("NFKC", name).casefold()
        spelt.setdefault(" ".join(folded.split()), []).append(name)
    for names in spelt.values():
        if len(names) > 1:
            print(
                f"warning: the superclasses {', '.join(map(repr, names))} are told apart by their "
                "spelling alone; are they one?",
                flush=True,
            )


def _report_bad(bad: dict[str, str], file: Path) -> None:
    checkpoint.write_json(file, bad)
    if bad:
        names = ", ".join(list(bad)[:NAMED]) + (", ..." if len(bad) > NAMED else "")
        print(f"left out {len(bad)} photos that cannot be used ({file}): {names}", flush=True)
